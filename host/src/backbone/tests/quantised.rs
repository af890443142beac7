//! Blocks of 8-bit layers whose rounding was chosen for slices.

use super::*;
use safetensors::tensor::{Dtype, TensorView};

fn record(info: &BackboneInfo) -> QuantisedRecord {
    QuantisedRecord {
        fingerprint: info.fingerprint.clone(),
        slices: 6,
        pixels: "0".repeat(64),
        measured: 6,
        lowest_cosine: 0.99,
        mean_cosine: 0.995,
        kernels: "test".into(),
    }
}

fn with_vnni() -> Option<Isa> {
    Isa::available().into_iter().rev().find(|isa| isa.has_vnni())
}

/// Squared distance of the class tokens and patches to those of f32.
fn distance(exact: &Features, found: &Features) -> Result<f64, BackboneError> {
    let apart = |a: &Tensor, b: &Tensor| (a - b)?.sqr()?.sum_all()?.to_scalar::<f32>().map(f64::from);
    Ok(apart(&exact.class_tokens, &found.class_tokens)? + apart(&exact.patch_tokens, &found.patch_tokens)?)
}

#[test]
fn chosen_steps_answer_nearer_to_f32_than_the_nearest_for_every_family_and_go_through_a_file() -> Outcome {
    let Some(isa) = with_vnni() else { return Ok(()) };
    for tiny in ALL {
        let dir = tempfile::tempdir()?;
        write(dir.path(), tiny)?;
        let exact = Backbone::open_with(dir.path(), Precision::F32, Kernels::Fast(isa))?;
        let slices = pixels(6)?;
        let mut blocks = Vec::new();
        let quantised = exact.quantised(&slices, &mut |n| blocks.push(n))?;
        assert_eq!(blocks, [1, 2, 3]);
        let truth = exact.forward(&slices, &NoAdapter, true)?;
        let answer = |backbone: &Backbone| backbone.forward(&slices, &NoAdapter, true);
        let open = || Backbone::open_with(dir.path(), Precision::Int8, Kernels::Fast(isa));
        let nearest = open()?;
        assert_eq!(nearest.quantised_sha256(), None);
        let nearest = distance(&truth, &answer(&nearest)?)?;
        quantised.write(dir.path(), &record(exact.info()))?;
        let chosen = open()?;
        assert_eq!(chosen.quantised_sha256().map(str::len), Some(64));
        let features = answer(&chosen)?;
        let of_chosen = distance(&truth, &features)?;
        assert!(of_chosen < nearest, "{tiny:?}: {of_chosen} {nearest}");
        // What was not written yet answers the same.
        let unwritten =
            Backbone::of(arch::open(dir.path())?, Precision::Int8, Kernels::Fast(isa), Some(&quantised))?;
        assert_eq!(difference(&answer(&unwritten)?.patch_tokens, &features.patch_tokens)?, 0.0);
        // In other numbers the file changes nothing.
        for precision in [Precision::F32, Precision::Int16] {
            let other = Backbone::open_with(dir.path(), precision, Kernels::Fast(isa))?;
            assert_eq!(other.quantised_sha256(), None);
        }
    }
    Ok(())
}

#[test]
fn the_same_steps_are_chosen_by_one_thread_and_by_many() -> Outcome {
    let dir = tempfile::tempdir()?;
    write(dir.path(), ALL[0])?;
    let exact = Backbone::open(dir.path(), Precision::F32)?;
    let slices = pixels(5)?;
    let with = |threads: usize| -> Result<QuantisedWeights, Box<dyn std::error::Error>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        Ok(pool.install(|| exact.quantised(&slices, &mut |_| ()))?)
    };
    assert_eq!(with(1)?, with(3)?);
    Ok(())
}

#[test]
fn a_file_of_other_weights_without_a_record_or_with_other_shapes_is_refused_by_name() -> Outcome {
    let Some(isa) = with_vnni() else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    write(dir.path(), ALL[0])?;
    let exact = Backbone::open(dir.path(), Precision::F32)?;
    let quantised = exact.quantised(&pixels(2)?, &mut |_| ())?;
    let refused = || match Backbone::open_with(dir.path(), Precision::Int8, Kernels::Fast(isa)) {
        Ok(_) => String::new(),
        Err(e) => e.to_string(),
    };
    let other = QuantisedRecord { fingerprint: "another".into(), ..record(exact.info()) };
    quantised.write(dir.path(), &other)?;
    let told = refused();
    assert!(told.contains(QUANTISED_FILE) && told.contains("found layers of the backbone another"), "{told}");
    assert!(told.ends_with("make it again with `host backbone quantise`"), "{told}");
    quantised.write(dir.path(), &record(exact.info()))?;
    let path = dir.path().join(QUANTISED_FILE);
    let whole = std::fs::read(&path)?;
    std::fs::write(&path, &whole[..whole.len() - 1])?;
    assert!(refused().contains(QUANTISED_FILE), "cut off");
    // As long as it should be, and not of this layer.
    let metadata =
        HashMap::from([("anymc3d.int8/1".to_owned(), serde_json::to_string(&record(exact.info()))?)]);
    let (steps, units) = ([0u8; 6], [0u8; 8]);
    let ones: Vec<u8> = [1f32; 3].iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut views = Vec::new();
    for i in 0..BLOCKS {
        for layer in ["qkv", "output", "up", "down"] {
            let mut view = |part: &str, dtype, shape, bytes| {
                let name = format!("blocks.{i}.{layer}.{part}");
                TensorView::new(dtype, shape, bytes).map(|view| views.push((name, view)))
            };
            if layer == "up" {
                view("inputs", Dtype::F32, vec![3], &ones[..])?;
            }
            view("steps", Dtype::I8, vec![2, 3], &steps[..])?;
            view("units", Dtype::F32, vec![2], &units[..])?;
        }
    }
    std::fs::write(&path, safetensors::serialize(views.clone(), Some(metadata.clone()))?)?;
    assert!(refused().contains(QUANTISED_FILE), "{}", refused());
    views.pop();
    std::fs::write(&path, safetensors::serialize(views.clone(), Some(metadata))?)?;
    assert!(refused().contains("units"), "{}", refused());
    std::fs::write(&path, safetensors::serialize(views, None)?)?;
    assert!(refused().contains("no record of its making"), "{}", refused());
    Ok(())
}
