//! Memory of a packed right-hand side.

use half::{bf16, f16};
use memmap2::MmapMut;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// From this size on, numbers lie in pages of their own: those of a frozen layer stay for the life of the process, and an
/// allocator that rounds such sizes up would hold a tenth of a large backbone more.
const PAGES: usize = 1 << 20;

/// A cache line, so that no load of a tile straddles two.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
struct Line([u32; 16]);

/// What [`Numbers`] may hold: a number of which every pattern of bits is one, and all bits zero is 0.
pub(crate) trait Plain: Copy {}
impl Plain for f32 {}
impl Plain for u32 {}
impl Plain for f16 {}
impl Plain for bf16 {}

enum Place {
    Heap(Vec<Line>),
    Pages(MmapMut),
}

/// Numbers that begin at a cache line.
pub(crate) struct Numbers<E> {
    place: Place,
    len: usize,
    of: PhantomData<E>,
}

impl<E: Plain> Default for Numbers<E> {
    fn default() -> Self {
        Self { place: Place::Heap(Vec::new()), len: 0, of: PhantomData }
    }
}

impl<E: Plain> Numbers<E> {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let bytes = len * size_of::<E>();
        // Where the system gives no pages, the allocator answers for it.
        let pages = (bytes >= PAGES).then(|| MmapMut::map_anon(bytes).ok()).flatten();
        let place = match pages {
            Some(pages) => Place::Pages(pages),
            None => Place::Heap(vec![Line::default(); bytes.div_ceil(size_of::<Line>())]),
        };
        Self { place, len, of: PhantomData }
    }

    /// `len` numbers in the memory that is there already, if it is enough: whatever it holds.
    pub fn reused(mut self, len: usize) -> Self {
        match &mut self.place {
            Place::Heap(lines) if len * size_of::<E>() < PAGES => {
                lines.resize((len * size_of::<E>()).div_ceil(size_of::<Line>()), Line::default());
                Self { len, ..self }
            }
            Place::Pages(pages) if len * size_of::<E>() <= pages.len() => Self { len, ..self },
            _ => Self::zeros(len),
        }
    }

    /// Of memory, but for what the last line or page has more.
    pub fn bytes(&self) -> usize {
        size_of_val(&**self)
    }
}

impl<E: Plain> Deref for Numbers<E> {
    type Target = [E];

    fn deref(&self) -> &[E] {
        let start = match &self.place {
            Place::Heap(lines) => lines.as_ptr().cast::<E>(),
            Place::Pages(pages) => pages.as_ptr().cast(),
        };
        // SAFETY: lines or pages hold at least `len` numbers, begin at a multiple of 64 bytes, are initialised, and any bits in them
        // are a number of a `Plain` type.
        unsafe { std::slice::from_raw_parts(start, self.len) }
    }
}

impl<E: Plain> DerefMut for Numbers<E> {
    fn deref_mut(&mut self) -> &mut [E] {
        let start = match &mut self.place {
            Place::Heap(lines) => lines.as_mut_ptr().cast::<E>(),
            Place::Pages(pages) => pages.as_mut_ptr().cast(),
        };
        // SAFETY: as in `deref`; the borrow of `self` is the only one.
        unsafe { std::slice::from_raw_parts_mut(start, self.len) }
    }
}
