//! Who shares what: tasks that read the same slices share reading, preprocessing, the patch embedding and every block
//! before the first one that any of them adapts; from there each goes its own way through the same base weights.

use crate::backbone::{SiteAdapter, Wanted};
use crate::engine::case::Case;
use crate::engine::case_data::{SlicesKey, slices_of};
use crate::task::LoadedTask;
use crate::task::TaskAdapter;
use crate::task::TaskSiteAdapter;
use anymc3d_manifest::View;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How an engine answers a case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Blocks of the backbone.
    pub blocks: usize,
    /// One per set of slices.
    pub stacks: Vec<StackPlan>,
}

/// Passes of tasks' slices through a backbone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passes {
    /// From the first block on.
    pub own: usize,
    /// From a later block on, after frozen blocks that another task's pass had computed.
    pub shared: usize,
}

impl std::ops::AddAssign for Passes {
    fn add_assign(&mut self, more: Self) {
        self.own += more.own;
        self.shared += more.shared;
    }
}

/// What is done with one set of slices.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StackPlan {
    /// The file they are cut from.
    pub file: String,
    /// How they are cut.
    pub slices: String,
    /// After how many frozen blocks tokens are kept for several tasks, ascending; 0 is the patch embedding.
    pub kept: Vec<usize>,
    /// Who reads them.
    pub users: Vec<User>,
    #[serde(skip)]
    pub(super) of: SlicesKey,
}

/// A task's view.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct User {
    /// Plugin.
    pub task: String,
    /// Its view.
    pub view: String,
    /// What it changes in the backbone.
    pub adapter: String,
    /// Blocks that are its own, from this one on; `None` where it changes the patch embedding already.
    pub from_block: Option<usize>,
    /// Blocks that it runs at all, shared ones among them.
    #[serde(skip)]
    pub(super) blocks: usize,
    /// Whether code of the plugin's own is called in its blocks.
    #[serde(skip)]
    pub(super) code: bool,
    /// Whether the frozen tokens before its blocks are compared with those of its training cases.
    #[serde(skip)]
    pub(super) compared: bool,
}

/// The most blocks that may be frozen: the last of an adapter's is run on its own where its attention is wanted, or only its class
/// token.
pub(super) fn most(adapter: &dyn SiteAdapter, blocks: usize, wanted: Wanted) -> usize {
    adapter.depth(blocks).saturating_sub(usize::from(wanted.attention || !wanted.patches))
}

/// After how many frozen blocks an adapter's own way begins; `None` where even the patch embedding is its own.
pub(super) fn depth(adapter: &dyn SiteAdapter, blocks: usize) -> Option<usize> {
    (!adapter.patch_embed()).then(|| adapter.first_block().min(blocks))
}

fn describe(adapter: &TaskAdapter) -> String {
    match adapter {
        TaskAdapter::None => "none".to_owned(),
        TaskAdapter::Cut(blocks) => format!("none, {blocks} blocks"),
        TaskAdapter::Lora { lora, .. } => format!("LoRA of rank {}, unmerged", lora.rank),
        TaskAdapter::Custom(_) => "the plugin's own code".to_owned(),
    }
}

fn cut(view: &View) -> String {
    let [rows, columns] = view.size;
    let count = match (view.slices, view.slice_spacing_mm) {
        (Some(n), _) => format!("{n} {:?} slices", view.axis),
        (None, Some(mm)) => format!("{:?} slices every {mm} mm", view.axis),
        (None, None) => format!("{:?} slices", view.axis),
    };
    let crop = if view.crop.is_some() { ", cropped" } else { "" };
    format!("{} of {rows} x {columns} pixels, {:?} region{crop}", count.to_lowercase(), view.region)
        .replace("Full region", "whole scan")
        .to_lowercase()
}

impl Plan {
    /// Of these tasks for a case, with the last block's attention or without; views without a file are left out.
    pub(super) fn of<'a>(
        tasks: impl Iterator<Item = &'a LoadedTask>,
        case: &Case,
        blocks: usize,
        attention: bool,
    ) -> Self {
        let mut stacks: Vec<StackPlan> = Vec::new();
        for task in tasks.flat_map(LoadedTask::all) {
            for (view, adapter) in task.task.manifest().views.iter().zip(task.task.adapters()) {
                let Some(path) = case.file(task.name(), &view.name) else { continue };
                let of = slices_of(path, view, &case.region);
                let reference = task.weights_info.reference.as_ref().and_then(|r| r.of_view(&view.name));
                let site = TaskSiteAdapter::new(adapter);
                let user = User {
                    task: task.name().to_owned(),
                    view: view.name.clone(),
                    adapter: describe(adapter),
                    from_block: depth(&site, most(&site, blocks, task.task.wanted(view, attention))),
                    blocks: site.depth(blocks),
                    code: matches!(adapter, TaskAdapter::Custom(_)),
                    compared: reference.is_some_and(|r| r.after_blocks.is_some()),
                };
                match stacks.iter_mut().find(|s| s.of == of) {
                    Some(stack) => stack.users.push(user),
                    None => stacks.push(StackPlan {
                        file: path.display().to_string(),
                        slices: cut(view),
                        kept: Vec::new(),
                        users: vec![user],
                        of,
                    }),
                }
            }
        }
        for stack in &mut stacks {
            stack.kept = kept(&stack.users);
        }
        Self { blocks, stacks }
    }

    /// After which blocks tokens of these slices are kept.
    pub(super) fn kept(&self, of: &SlicesKey) -> &[usize] {
        self.stacks.iter().find(|s| s.of == *of).map_or(&[], |s| &s.kept)
    }

    /// Passes of a task's slices through the backbone: those with frozen blocks of their own, and those that took them over from
    /// another task's.
    pub fn passes(&self) -> Passes {
        let shared = |stack: &StackPlan| {
            let sharing = stack.users.iter().filter(|u| u.from_block.is_some_and(|b| b > 0)).count();
            if stack.kept.is_empty() { 0 } else { sharing.saturating_sub(1) }
        };
        let shared: usize = self.stacks.iter().map(shared).sum();
        let users: usize = self.stacks.iter().map(|stack| stack.users.len()).sum();
        Passes { own: users - shared, shared }
    }

    /// Passes through a block: as planned, and if every task went alone.
    pub fn cost(&self) -> (usize, usize) {
        let planned = self.stacks.iter().map(|stack| {
            let own: usize = stack.users.iter().map(|u| u.blocks - u.from_block.unwrap_or(0)).sum();
            let frozen = match &stack.users[..] {
                [one] => one.from_block.unwrap_or(0),
                _ => stack.kept.last().copied().unwrap_or(0),
            };
            own + frozen
        });
        let users: usize = self.stacks.iter().map(|s| s.users.len()).sum();
        (planned.sum(), users * self.blocks)
    }
}

/// Where the ways of two or more part, each once. Where one goes alone nothing is kept: its slices go through all blocks
/// one after the other, without leaving the caches. Code in the blocks keeps a pass off the fused kernels: the frozen
/// blocks before it do not wait for it. What is compared with training cases is kept for that.
fn kept(users: &[User]) -> Vec<usize> {
    let mut depths: Vec<usize> = users.iter().filter_map(|u| u.from_block).collect();
    let code = users.iter().any(|u| u.code && u.from_block.is_some_and(|b| b > 0));
    if depths.len() < 2 && !code && !users.iter().any(|u| u.compared) {
        return Vec::new();
    }
    depths.sort_unstable();
    depths.dedup();
    depths
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for stack in &self.stacks {
            writeln!(f, "{}: read and cut once", stack.file)?;
            writeln!(f, "  {}", stack.slices)?;
            let mut done = None;
            for &depth in &stack.kept {
                let through = |what: &str| {
                    let who: Vec<&str> = stack
                        .users
                        .iter()
                        .filter(|u| u.from_block.is_some_and(|b| b >= depth))
                        .map(|u| u.task.as_str())
                        .collect();
                    format!("  {what}: frozen, once for {}", who.join(", "))
                };
                match done {
                    None if depth == 0 => writeln!(f, "{}", through("patch embedding"))?,
                    None => {
                        writeln!(f, "{}", through(&format!("patch embedding, blocks 0 to {}", depth - 1)))?
                    }
                    Some(from) => writeln!(f, "{}", through(&format!("blocks {from} to {}", depth - 1)))?,
                }
                done = Some(depth);
            }
            for user in &stack.users {
                let last = user.blocks.saturating_sub(1);
                let way = match user.from_block {
                    None => format!("patch embedding, blocks 0 to {last}"),
                    Some(b) if b == user.blocks => "no block of its own".to_owned(),
                    Some(b) if stack.kept.is_empty() => format!("blocks 0 to {last}, adapted from {b} on"),
                    Some(b) => format!("blocks {b} to {last}"),
                };
                writeln!(f, "  {} (view {}): {way}; adapter: {}", user.task, user.view, user.adapter)?;
            }
        }
        let (planned, alone) = self.cost();
        write!(f, "{planned} passes through a block instead of {alone}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(from_block: Option<usize>) -> User {
        let text = || "t".to_owned();
        User {
            task: text(),
            view: text(),
            adapter: text(),
            from_block,
            blocks: 12,
            code: false,
            compared: false,
        }
    }

    fn plan(depths: &[Option<usize>]) -> Plan {
        let users: Vec<User> = depths.iter().map(|d| user(*d)).collect();
        let of = SlicesKey::default();
        let stack = StackPlan { file: "f".into(), slices: "s".into(), kept: kept(&users), users, of };
        Plan { blocks: 12, stacks: vec![stack] }
    }

    #[test]
    fn twelve_tasks_in_the_last_third_cost_less_than_five_of_one() {
        let plan = plan(&[Some(8); 12]);
        assert_eq!((plan.stacks[0].kept.clone(), plan.cost()), (vec![8], (56, 144)));
        assert_eq!(plan.passes(), Passes { own: 1, shared: 11 });
    }

    #[test]
    fn ways_that_part_one_after_the_other_share_what_is_before_each() {
        let plan = plan(&[Some(10), Some(6), Some(12), None]);
        // Frozen up to 12 once, and 2 + 6 + 0 + 12 of their own.
        assert_eq!((plan.stacks[0].kept.clone(), plan.cost()), (vec![6, 10, 12], (32, 48)));
        assert_eq!(plan.passes(), Passes { own: 2, shared: 2 });
        assert!(plan.to_string().contains("blocks 6 to 9: frozen, once for"), "{plan}");
    }

    #[test]
    fn views_of_two_modalities_share_slices_only_where_the_modality_does_not_decide_the_box() {
        use anymc3d_manifest::{Axis, Fit, Intensity, Modality, Region};
        let view = |modality, region| View {
            name: "v".into(),
            modality,
            axis: Axis::Axial,
            slices: Some(4),
            slice_spacing_mm: None,
            size: [14, 14],
            fit: Fit::Square,
            spacing_mm: None,
            region,
            intensity: Intensity::Percentile { low: 0.5, high: 99.5, nonzero: false },
            ..View::new("v", Axis::Axial, 1, [1, 1])
        };
        let same = |region| {
            let of = |modality| {
                slices_of(std::path::Path::new("a.nii"), &view(modality, region), &Default::default())
            };
            of(Modality::CT) == of(Modality::MR)
        };
        assert!(same(Region::Full) && !same(Region::Body) && !same(Region::Lungs) && same(Region::Mask));
    }

    #[test]
    fn a_task_alone_keeps_nothing() {
        let plan = plan(&[Some(6)]);
        assert_eq!((plan.stacks[0].kept.clone(), plan.cost()), (vec![], (12, 12)));
        assert_eq!(plan.passes(), Passes { own: 1, shared: 0 });
        let of_code = User { code: true, ..user(Some(6)) };
        assert_eq!(kept(&[of_code]), [6]);
        let compared = User { compared: true, ..user(Some(6)) };
        assert_eq!(kept(&[compared]), [6]);
    }
}
