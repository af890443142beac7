//! A thread for what is done beside the backbone: the next case's slices, the last case's files.

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Work that divides itself does so on one thread of its own. In the pool of all threads it would stand behind the backbone's
/// blocks, come late, and let the backbone wait in the end.
#[derive(Debug)]
pub struct Beside(Option<ThreadPool>);

impl Beside {
    /// Where the system gives no thread, work is divided in the pool of all.
    pub fn new() -> Self {
        let pool = ThreadPoolBuilder::new().num_threads(1).thread_name(|_| "beside".to_owned()).build();
        Self(pool.ok())
    }

    /// Runs `work` and waits for it.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.0 {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }
}

impl Default for Beside {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;

    #[test]
    fn work_beside_the_backbone_is_done_while_all_other_threads_are_taken() {
        let beside = Beside::new();
        let (taken, done) = (
            std::sync::Barrier::new(rayon::current_num_threads() + 1),
            std::sync::Barrier::new(rayon::current_num_threads() + 1),
        );
        std::thread::scope(|scope| {
            scope.spawn(|| {
                rayon::broadcast(|_| {
                    taken.wait();
                    done.wait();
                })
            });
            taken.wait();
            let sum: usize = beside.run(|| (0..1000usize).into_par_iter().sum());
            assert_eq!(sum, 499_500);
            done.wait();
        });
    }
}
