//! A plugin's objects as the test host holds them: called through their tables, dropped through their tables.

use super::objects::*;
use super::table::{Answer, HostOps_Ref};
use super::types::*;
use crate::error::{Error, Result};
use abi_stable::std_types::{RSlice, RVec};
use std::mem::ManuallyDrop;

fn plain<T>(answer: Answer<T>) -> Result<T> {
    answer.into_result().map_err(Error::from)
}

/// An object of this process and the table it came with.
pub(crate) struct Owned<T: Part>(T);

/// What the objects have in common.
pub(crate) trait Part: Copy {
    const NAME: &'static str;
    fn data(self) -> Data;
    fn drop_function(self) -> unsafe extern "C" fn(Data) -> Answer<()>;
}

macro_rules! part {
    ($object:ident, $name:literal) => {
        impl Part for $object {
            const NAME: &'static str = $name;
            fn data(self) -> Data {
                self.data
            }
            fn drop_function(self) -> unsafe extern "C" fn(Data) -> Answer<()> {
                self.table.drop()
            }
        }
    };
}
part!(TaskObject, "the task");
part!(HeadObject, "the head");
part!(SegmentationObject, "the segmentation branch");
part!(AdapterObject, "the adapter");

// SAFETY: what stands behind the data is Send + Sync by the trait bounds of the shims that made it; the pointer itself
// is never handed out.
unsafe impl<T: Part> Send for Owned<T> {}
// SAFETY: as above.
unsafe impl<T: Part> Sync for Owned<T> {}

impl<T: Part> Owned<T> {
    /// Drops the part and says how that went.
    pub fn close(self) -> Result<()> {
        let this = ManuallyDrop::new(self);
        // SAFETY: the object is ours and is given up here; `this` is not dropped.
        plain(unsafe { (this.0.drop_function())(this.0.data()) })
            .map_err(|e| Error::new(e.code(), format!("drop of {}: {e}", T::NAME)))
    }
}

impl<T: Part> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the object is ours and is dropped here only: `close` keeps this from running.
        let _ = plain(unsafe { (self.0.drop_function())(self.0.data()) });
    }
}

/// Where a call goes: the table of operations, the task's place, and what the part is told.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub ops: HostOps_Ref,
    pub context: ContextId,
    pub settings: &'a [Entry],
}

impl Call<'_> {
    fn settings(&self) -> RSlice<'_, Entry> {
        RSlice::from_slice(self.settings)
    }
}

impl Owned<TaskObject> {
    /// Takes over what [`super::shims::task_object`] made.
    pub fn new(object: TaskObject) -> Self {
        Self(object)
    }

    pub fn adapter(&self, call: Call<'_>) -> Result<(RVec<Entry>, Option<Owned<AdapterObject>>)> {
        // SAFETY: the data belongs to this table; both came as one object.
        let raw =
            plain(unsafe { (self.0.table.adapter())(self.0.data, call.ops, call.context, call.settings()) })?;
        Ok((raw.settings, raw.custom.into_option().map(Owned)))
    }

    pub fn head(&self, call: Call<'_>) -> Result<Owned<HeadObject>> {
        // SAFETY: the data belongs to this table; both came as one object.
        plain(unsafe { (self.0.table.head())(self.0.data, call.ops, call.context, call.settings()) })
            .map(Owned)
    }

    pub fn segmentation(&self, call: Call<'_>) -> Result<Option<Owned<SegmentationObject>>> {
        // SAFETY: the data belongs to this table; both came as one object.
        let part =
            unsafe { (self.0.table.segmentation())(self.0.data, call.ops, call.context, call.settings()) };
        Ok(plain(part)?.into_option().map(Owned))
    }

    pub fn loss(&self, call: Call<'_>, tensors: RVec<NamedHandle>) -> Result<Handle> {
        // SAFETY: the data belongs to this table; both came as one object.
        plain(unsafe { (self.0.table.loss())(self.0.data, call.ops, call.context, call.settings(), tensors) })
    }
}

impl Owned<HeadObject> {
    pub fn forward(&self, call: Call<'_>, tensors: RVec<NamedHandle>) -> Result<RVec<NamedHandle>> {
        // SAFETY: the data belongs to this table; both came as one object.
        plain(unsafe {
            (self.0.table.forward())(self.0.data, call.ops, call.context, call.settings(), tensors)
        })
    }
}

impl Owned<SegmentationObject> {
    pub fn logits(&self, call: Call<'_>, tensors: RVec<NamedHandle>) -> Result<Handle> {
        // SAFETY: the data belongs to this table; both came as one object.
        plain(unsafe {
            (self.0.table.logits())(self.0.data, call.ops, call.context, call.settings(), tensors)
        })
    }

    pub fn loss(&self, call: Call<'_>, tensors: RVec<NamedHandle>) -> Result<Handle> {
        // SAFETY: the data belongs to this table; both came as one object.
        plain(unsafe { (self.0.table.loss())(self.0.data, call.ops, call.context, call.settings(), tensors) })
    }
}

impl Owned<AdapterObject> {
    pub fn apply(&self, call: Call<'_>, site: u32, block: u64, tensors: RVec<NamedHandle>) -> Result<Handle> {
        // SAFETY: the data belongs to this table; both came as one object.
        plain(unsafe {
            (self.0.table.apply())(self.0.data, call.ops, call.context, site, block, call.settings(), tensors)
        })
    }
}
