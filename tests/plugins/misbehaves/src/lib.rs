//! Goes wrong in the way its first view is named, so that one library serves every test of the boundary.

use anymc3d_plugin_api::prelude::*;

struct Misbehaves;

/// A payload that panics once more when it is thrown away.
struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        panic!("the payload's own drop");
    }
}

/// A panic while another one is on its way.
struct SecondPanic;

impl Drop for SecondPanic {
    fn drop(&mut self) {
        panic!("the second of two");
    }
}

/// Goes on until the stack is full.
fn deeper(n: u64) -> u64 {
    let room = std::hint::black_box([n; 512]);
    if room[0] == u64::MAX { 0 } else { deeper(n + 1) + std::hint::black_box(room[17]) }
}

/// What ends a process, or holds it.
fn end(way: &str) {
    match way {
        "abort" => std::process::abort(),
        "exit_0" => std::process::exit(0),
        "exit_3" => std::process::exit(3),
        "segfault" => {
            let nowhere = std::hint::black_box(16usize) as *mut u8;
            // SAFETY: none, which is the point: what a wrong `unsafe` block of an author does.
            #[allow(unsafe_code)]
            unsafe {
                nowhere.write_volatile(1);
            }
        }
        "stack_overflow" => {
            std::hint::black_box(deeper(0));
        }
        "endless_loop" => loop {
            std::hint::spin_loop();
        },
        "panic_while_unwinding" => {
            let _second = SecondPanic;
            panic!("the first of two");
        }
        "huge_allocation" => {
            std::hint::black_box(Vec::<u8>::with_capacity(1 << 46));
        }
        _ => {}
    }
}

struct BadHead {
    way: String,
    whole: AttentionPooling,
    kept: std::sync::Mutex<Vec<Tensor>>,
    hoard: std::sync::Mutex<Vec<Vec<u8>>>,
}

impl Drop for BadHead {
    fn drop(&mut self) {
        assert!(self.way != "panic_in_drop", "cannot let go");
        if self.way == "abort_in_drop" {
            std::process::abort();
        }
    }
}

/// An adapter in code.
struct BadAdapter(String);

impl SiteAdapter for BadAdapter {
    fn first_block(&self) -> usize {
        1
    }

    fn apply(&self, _: Site, input: &Tensor, output: Tensor) -> Result<Tensor> {
        match self.0.as_str() {
            "panic_in_apply" => panic!("no such site"),
            "abort_in_apply" => std::process::abort(),
            "wrong_shape_in_apply" => input.narrow(0, 0, 1),
            _ => Ok(output),
        }
    }
}

/// A branch that is whole until it is asked.
struct BadBranch(String, TokenDecoder);

impl Segmentation for BadBranch {
    fn logits(&self, view: &ViewFeatures) -> Result<Tensor> {
        match self.0.as_str() {
            "panic_in_mask" => panic!("no mask"),
            "abort_in_mask" => std::process::abort(),
            _ => self.1.logits(view),
        }
    }

    fn loss(&self, view: &ViewFeatures, mask: &Tensor) -> Result<Tensor> {
        self.1.loss(view, mask)
    }
}

impl Head for BadHead {
    fn forward(&self, views: &[ViewFeatures]) -> Result<HeadOutput> {
        let output = self.whole.forward(views)?;
        let host = output.logits.host();
        end(&self.way);
        // Of its scans some are fine: those whose first slice lies within three metres.
        if self.way == "abort_far_away" && views[0].slice_positions_mm()?[0].abs() > 3e3 {
            std::process::abort();
        }
        Ok(match self.way.as_str() {
            "panic_in_joined_thread" => {
                let joined = std::thread::spawn(|| panic!("a thread of its own")).join();
                joined.map_err(|_| Error::msg("a thread of this plugin panicked"))?;
                output
            }
            "panic_in_unwrapped_thread" => {
                std::thread::spawn(|| panic!("a thread of its own")).join().expect("a thread that ends well");
                output
            }
            "panic_in_detached_thread" => {
                drop(std::thread::spawn(|| panic!("nobody waits for this thread")));
                std::thread::sleep(std::time::Duration::from_millis(20));
                output
            }
            "thread_left_behind" => {
                drop(std::thread::spawn(|| {
                    std::thread::sleep(std::time::Duration::from_millis(3));
                    std::process::abort();
                }));
                output
            }
            "sleeps" => {
                std::thread::sleep(std::time::Duration::from_secs(2));
                output
            }
            "prints" => {
                println!("a line between the results");
                output
            }
            "hoards_memory" => {
                // Asked for and never touched: no machine is hurt where nothing stops it.
                let mut hoard = self.hoard.lock().map_err(|_| Error::msg("poisoned"))?;
                hoard.extend((0..64).map(|_| vec![0u8; 64 << 20]));
                output
            }
            "late_parameter" => {
                let extra = Params::new(host).get("late", &[1], Init::ones())?;
                let logits = output.logits.add(&extra)?;
                output.with_logits(logits)
            }
            "two_outputs" => HeadOutput::new(host.full(0.0, &[2])?),
            "panic_in_forward" => panic!("gives up after {} views", views.len()),
            "payload_panics" => std::panic::panic_any(Grenade),
            "caught_and_thrown_again" => {
                let caught = std::panic::catch_unwind(|| panic!("the first words"));
                std::panic::resume_unwind(caught.err().unwrap_or_else(|| Box::new("nothing was caught")))
            }
            "error_in_forward" => return Err(Error::msg("no such protocol")),
            "host_operation_fails" => {
                let logits = output.logits.reshape(&[7, 7])?;
                output.with_logits(logits)
            }
            "wrong_shape" => HeadOutput::new(host.full(0.0, &[3])?),
            "nan_logits" => HeadOutput::new(output.logits.scale(f64::NAN)?),
            "too_many_weights" => output.slice_weights(host.full(0.5, &[2])?),
            "short_weights" => HeadOutput::new(output.logits).slice_weights(host.full(1.0, &[1])?),
            "keeps_handles" => {
                let copy = output.logits.try_clone()?;
                self.kept.lock().map_err(|_| Error::msg("poisoned"))?.push(copy);
                output
            }
            // Handles that are no longer good among those that are: `forge` gives its own back first.
            "stale_logits" => {
                let forged = forge(&output.logits);
                output.with_logits(forged)
            }
            "absurd_broadcast" => {
                let row = host.full(1.0, &[1, 1 << 20])?;
                HeadOutput::new(row.broadcast_to(&[1 << 40, 1 << 20])?)
            }
            "absurd_outer" => {
                let column = host.full(1.0, &[1 << 22, 1])?;
                HeadOutput::new(column.add(&column.reshape(&[1, 1 << 22])?)?)
            }
            "absurd_product" => {
                let column = host.full(1.0, &[1 << 22, 1])?;
                HeadOutput::new(column.matmul(&column.reshape(&[1, 1 << 22])?)?)
            }
            _ => output,
        })
    }
}

/// The handle of a tensor that was given back already.
fn forge(tensor: &Tensor) -> Tensor {
    let host = tensor.host();
    match host.full(0.0, &[1]) {
        Ok(short_lived) => host.adopt(short_lived.handle()),
        Err(_) => host.adopt(tensor.handle()),
    }
}

impl TaskPlugin for Misbehaves {
    fn adapter(&self, build: &Build) -> Result<Adapter> {
        match build.views()[0].as_str() {
            "panic_in_adapter" => panic!("an adapter of no kind"),
            "absurd_rank" => {
                let mut lora = Lora::paper(build.backbone());
                lora.rank = usize::MAX;
                Ok(lora.into())
            }
            way if way.ends_with("_in_apply") => Ok(Adapter::Custom(Box::new(BadAdapter(way.to_owned())))),
            _ => Ok(Adapter::None),
        }
    }

    fn head(&self, build: &Build) -> Result<Box<dyn Head>> {
        let way = build.views()[0].clone();
        match way.as_str() {
            "panic_in_head" => panic!("a head of no shape"),
            "abort_in_head" => std::process::abort(),
            "endless_loop_in_head" => end("endless_loop"),
            "unknown_parameter" => {
                build.params().get("unheard_of", &[3], Init::zeros())?;
            }
            "absurd_parameter" => {
                build.params().get("huge", &[1 << 40, 1 << 10], Init::zeros())?;
            }
            "overflowing_parameter" => {
                build.params().get("huge", &[1 << 40, 1 << 40], Init::zeros())?;
            }
            _ => {}
        }
        let whole = AttentionPooling::new(build)?;
        Ok(Box::new(BadHead { way, whole, kept: Default::default(), hoard: Default::default() }))
    }

    fn segmentation(&self, build: &Build) -> Result<Option<Box<dyn Segmentation>>> {
        let way = build.views()[0].clone();
        match way.as_str() {
            "axial" | "panic_in_segmentation" => panic!("no pixels"),
            _ => Ok(Some(Box::new(BadBranch(way, TokenDecoder::new(build)?)))),
        }
    }

    fn loss(&self, _: &Build, _: &Tensor, _: &Targets) -> Result<Tensor> {
        panic!("no loss")
    }
}

export_plugin!(Misbehaves, manifest = "plugin.toml");
