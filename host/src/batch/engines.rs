//! Which shard a process is, from what its engine says in the environment: Slurm, Kubernetes, SGE, PBS and LSF arrays.

use super::shard::Shard;
use std::fmt;

/// What an engine says of a task of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Task {
    engine: &'static str,
    /// The variable with the task's index.
    variable: &'static str,
    index: usize,
    /// Lowest index, highest index and step of the whole array, where the engine tells them.
    bounds: Option<(usize, usize, usize)>,
}

/// A shard, and where it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The shard.
    pub shard: Shard,
    /// `Slurm`, for example.
    pub engine: &'static str,
}

/// Why the environment does not say which shard this is. One line, without the option that helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// No engine's variables.
    #[error(
        "the environment names no task of an array (SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX, SGE_TASK_ID, \
         PBS_ARRAY_INDEX, PBS_ARRAYID, LSB_JOBINDEX)"
    )]
    None,
    /// Two engines with different answers.
    #[error("{0} and {1} name different shards")]
    Several(String, String),
    /// Where the array begins is not known, or it is not as long as the work has shards.
    #[error("{variable}={index}: which shard is that? {why}")]
    Ambiguous {
        /// The variable.
        variable: &'static str,
        /// Its value.
        index: usize,
        /// What the engine says of the array.
        why: String,
    },
    /// An index that is no task of the array, or no shard.
    #[error("{0}")]
    NoShard(String),
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.shard, self.engine)
    }
}

/// The shard of `shards` that the environment names. `variable` looks a variable up. `first` is the index of shard 0 in the
/// array, where the caller knows it.
///
/// The lowest index of an array is shard 0 only where the array has as many tasks as there are shards: of a single task
/// that was submitted again the engine says that the array begins with it.
///
/// # Errors
/// [`EngineError`].
pub fn shard_of(
    variable: &dyn Fn(&str) -> Option<String>,
    shards: usize,
    first: Option<usize>,
) -> Result<Found, EngineError> {
    let mut found: Option<Found> = None;
    for task in tasks(variable) {
        let shard = task.shard(shards, first)?;
        let now = Found { shard, engine: task.engine };
        match found {
            Some(before) if before.shard != shard => {
                return Err(EngineError::Several(before.to_string(), now.to_string()));
            }
            Some(_) => {}
            None => found = Some(now),
        }
    }
    found.ok_or(EngineError::None)
}

/// What each engine says. A job that is no array has no index (SGE: `undefined`, LSF: 0).
fn tasks(variable: &dyn Fn(&str) -> Option<String>) -> Vec<Task> {
    let number = |name: &str| variable(name)?.trim().parse::<usize>().ok();
    let bounds = |low: &str, high: &str, step: &str| Some((number(low)?, number(high)?, number(step)?));
    let slurm = number("SLURM_ARRAY_TASK_ID").map(|index| Task {
        engine: "Slurm",
        variable: "SLURM_ARRAY_TASK_ID",
        index,
        bounds: bounds("SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX", "SLURM_ARRAY_TASK_STEP"),
    });
    // As many indices as completions, from 0; the number of completions is not told.
    let kubernetes = number("JOB_COMPLETION_INDEX").map(|index| Task {
        engine: "Kubernetes",
        variable: "JOB_COMPLETION_INDEX",
        index,
        bounds: Some((0, usize::MAX, 1)),
    });
    let sge = number("SGE_TASK_ID").map(|index| Task {
        engine: "SGE",
        variable: "SGE_TASK_ID",
        index,
        bounds: bounds("SGE_TASK_FIRST", "SGE_TASK_LAST", "SGE_TASK_STEPSIZE"),
    });
    let pbs = ["PBS_ARRAY_INDEX", "PBS_ARRAYID"]
        .into_iter()
        .find_map(|name| Some(Task { engine: "PBS", variable: name, index: number(name)?, bounds: None }));
    // LSF counts from 1 and does not say where an array begins.
    let lsf = number("LSB_JOBINDEX").filter(|index| *index > 0).map(|index| Task {
        engine: "LSF",
        variable: "LSB_JOBINDEX",
        index,
        bounds: number("LSB_JOBINDEX_END").zip(number("LSB_JOBINDEX_STEP")).map(|(end, step)| (1, end, step)),
    });
    [slurm, kubernetes, sge, pbs, lsf].into_iter().flatten().collect()
}

impl Task {
    fn shard(&self, shards: usize, first: Option<usize>) -> Result<Shard, EngineError> {
        let Self { engine, variable, index, bounds } = *self;
        let ambiguous = |why: String| EngineError::Ambiguous { variable, index, why };
        let tasks = |(low, high, step): (usize, usize, usize)| {
            // Of an array without a known end this is the largest number there is.
            (step > 0 && high >= low).then(|| ((high - low) / step.max(1)).saturating_add(1))
        };
        // A whole array tells its own step; a part of one does not tell the step of the whole.
        let whole = bounds.filter(|b| tasks(*b) == Some(shards) || b.1 == usize::MAX);
        let (low, step) = match (whole, first) {
            (Some((_, _, step)), Some(first)) => (first, step),
            (Some((low, _, step)), None) => (low, step),
            (None, Some(first)) => (first, 1),
            (None, None) => {
                return Err(ambiguous(match bounds {
                    Some((low, high, step)) => format!(
                        "{engine} says that the array has {} tasks ({low} to {high}, step {step}), and there are {shards} shards",
                        tasks((low, high, step)).unwrap_or(0)
                    ),
                    None => format!("{engine} does not say where the array begins"),
                }));
            }
        };
        let off = |what: String| EngineError::NoShard(format!("{variable}={index}: {what}"));
        let offset = index.checked_sub(low).ok_or_else(|| off(format!("the array begins at {low}")))?;
        if !offset.is_multiple_of(step) {
            return Err(off(format!("the array begins at {low} and has every {step}th index")));
        }
        Shard::new(offset / step, shards).map_err(off)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(variables: &[(&str, &str)], shards: usize, first: Option<usize>) -> Result<String, String> {
        let get = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        shard_of(&get, shards, first).map(|found| found.to_string()).map_err(|e| e.to_string())
    }

    fn slurm(
        id: &str,
        min: &str,
        max: &str,
        step: &str,
        shards: usize,
        first: Option<usize>,
    ) -> Result<String, String> {
        let variables = [
            ("SLURM_ARRAY_TASK_ID", id),
            ("SLURM_ARRAY_TASK_MIN", min),
            ("SLURM_ARRAY_TASK_MAX", max),
            ("SLURM_ARRAY_TASK_STEP", step),
        ];
        shard(&variables, shards, first)
    }

    #[test]
    fn a_slurm_array_need_not_begin_at_0_or_be_dense() {
        let ok = |text: &str| Ok(format!("{text} (Slurm)"));
        // --array=0-7, --array=1-8, --array=10-24:2, --array=0,3,7 (Slurm tells bounds and step 1).
        assert_eq!(slurm("7", "0", "7", "1", 8, None), ok("7/8"));
        assert_eq!(slurm("1", "1", "8", "1", 8, None), ok("0/8"));
        assert_eq!(slurm("14", "10", "24", "2", 8, None), ok("2/8"));
        assert_eq!(slurm("3", "0", "7", "1", 8, None), ok("3/8"));
        let odd = slurm("13", "10", "24", "2", 8, None).unwrap_err();
        assert_eq!(odd, "SLURM_ARRAY_TASK_ID=13: the array begins at 10 and has every 2th index");
    }

    #[test]
    fn a_single_task_that_was_submitted_again_is_not_taken_for_the_first() {
        // --array=5: MIN and MAX are 5, the count is 1.
        let message = slurm("5", "5", "5", "1", 8, None).unwrap_err();
        assert_eq!(
            message,
            "SLURM_ARRAY_TASK_ID=5: which shard is that? Slurm says that the array has 1 tasks (5 to 5, step 1), and there \
             are 8 shards"
        );
        assert_eq!(slurm("5", "5", "5", "1", 8, Some(0)), Ok("5/8 (Slurm)".into()));
        assert_eq!(slurm("5", "5", "5", "1", 8, Some(1)), Ok("4/8 (Slurm)".into()));
        assert!(slurm("8", "8", "8", "1", 8, Some(0)).unwrap_err().contains("there is no shard 8 of 8"));
        assert!(slurm("0", "0", "0", "1", 8, Some(1)).unwrap_err().contains("the array begins at 1"));
    }

    #[test]
    fn kubernetes_sge_pbs_and_lsf_are_read_and_a_job_that_is_no_array_is_none() {
        assert_eq!(shard(&[("JOB_COMPLETION_INDEX", "3")], 8, None), Ok("3/8 (Kubernetes)".into()));
        assert_eq!(shard(&[("JOB_COMPLETION_INDEX", "0")], 1, None), Ok("0/1 (Kubernetes)".into()));
        let past = shard(&[("JOB_COMPLETION_INDEX", "8")], 8, None).unwrap_err();
        assert!(past.contains("there is no shard 8 of 8"), "{past}");
        let sge = |id| {
            let names = [("SGE_TASK_FIRST", "1"), ("SGE_TASK_LAST", "8"), ("SGE_TASK_STEPSIZE", "1")];
            shard(&[&[("SGE_TASK_ID", id)], &names[..]].concat(), 8, None)
        };
        assert_eq!(sge("8"), Ok("7/8 (SGE)".into()));
        assert!(sge("undefined").unwrap_err().starts_with("the environment names no task"));
        assert!(shard(&[("PBS_ARRAY_INDEX", "3")], 8, None).unwrap_err().contains("PBS does not say where"));
        assert_eq!(shard(&[("PBS_ARRAY_INDEX", "3")], 8, Some(1)), Ok("2/8 (PBS)".into()));
        let lsf = [("LSB_JOBINDEX", "8"), ("LSB_JOBINDEX_END", "8"), ("LSB_JOBINDEX_STEP", "1")];
        assert_eq!(shard(&lsf, 8, None), Ok("7/8 (LSF)".into()));
        assert!(
            shard(&[("LSB_JOBINDEX", "0")], 8, None)
                .unwrap_err()
                .starts_with("the environment names no task")
        );
    }

    #[test]
    fn two_engines_that_disagree_are_refused() {
        let both = [("JOB_COMPLETION_INDEX", "3"), ("PBS_ARRAYID", "4")];
        assert_eq!(
            shard(&both, 8, Some(0)).unwrap_err(),
            "3/8 (Kubernetes) and 4/8 (PBS) name different shards"
        );
    }
}
