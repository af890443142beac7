//! Every differentiable operation against central differences, called as a plugin calls it.

use crate::abi::named;
use crate::abi::types::{BinaryOp, ErrorCode, ReduceOp, UnaryOp};
use crate::testkit::Context;
use crate::{Result, Tensor};

type Operation = Box<dyn Fn(&[Tensor]) -> Result<Tensor>>;

struct Case {
    name: &'static str,
    shapes: Vec<Vec<usize>>,
    range: (f32, f32),
    run: Operation,
}

fn case(
    name: &'static str,
    shapes: &[&[usize]],
    range: (f32, f32),
    run: impl Fn(&[Tensor]) -> Result<Tensor> + 'static,
) -> Case {
    Case { name, shapes: shapes.iter().map(|s| s.to_vec()).collect(), range, run: Box::new(run) }
}

/// Distinct values in a fixed shuffled order: no ties, no zero, farther apart than the difference quotient's steps.
fn values(n: usize, offset: usize, (low, high): (f32, f32)) -> Vec<f32> {
    (0..n).map(|i| low + (high - low) * ((((i + offset) * 7919 + 13) % 101) as f32 + 0.37) / 102.0).collect()
}

fn differentiable() -> Vec<Case> {
    let (any, positive) = ((-2.0, 2.0), (0.3, 3.0));
    let (a, b) = (&[2, 3, 4][..], &[3, 1][..]);
    let mut all = vec![
        case("neg", &[a], any, |x| x[0].neg()),
        case("exp", &[a], any, |x| x[0].exp()),
        case("log", &[a], positive, |x| x[0].log()),
        case("sqrt", &[a], positive, |x| x[0].sqrt()),
        case("square", &[a], any, |x| x[0].square()),
        case("abs", &[a], any, |x| x[0].abs()),
        case("recip", &[a], positive, |x| x[0].recip()),
        case("relu", &[a], any, |x| x[0].relu()),
        case("gelu", &[a], any, |x| x[0].gelu()),
        case("silu", &[a], any, |x| x[0].silu()),
        case("sigmoid", &[a], any, |x| x[0].sigmoid()),
        case("tanh", &[a], any, |x| x[0].tanh()),
        case("softplus", &[a], (-9.0, 9.0), |x| x[0].softplus()),
        case("add", &[a, b], any, |x| x[0].add(&x[1])),
        case("sub", &[a, b], any, |x| x[0].sub(&x[1])),
        case("mul", &[a, b], any, |x| x[0].mul(&x[1])),
        case("mul", &[a, a], any, |x| x[0].mul(&x[0])?.mul(&x[1])),
        case("div", &[a, b], positive, |x| x[0].div(&x[1])),
        case("maximum", &[a, b], any, |x| x[0].maximum(&x[1])),
        case("minimum", &[a, b], any, |x| x[0].minimum(&x[1])),
        case("affine", &[a], any, |x| x[0].affine(-1.7, 0.3)),
        case("power", &[a], positive, |x| x[0].power(1.7)),
        case("power", &[a], positive, |x| x[0].power(0.0)?.mul(&x[0])),
        // Bounds halfway between two values.
        case("clamp", &[a], any, |x| x[0].clamp(-0.5933, 0.8576)),
        case("matmul", &[&[3, 4], &[4, 2]], any, |x| x[0].matmul(&x[1])),
        case("matmul", &[&[2, 3, 4], &[4, 2]], any, |x| x[0].matmul(&x[1])),
        case("matmul", &[&[5, 1, 3, 4], &[2, 4, 2]], any, |x| x[0].matmul(&x[1])),
        case("matmul", &[&[4], &[4, 2]], any, |x| x[0].matmul(&x[1])),
        case("matmul", &[&[3, 4], &[4]], any, |x| x[0].matmul(&x[1])),
        case("matmul", &[&[4], &[4]], any, |x| x[0].matmul(&x[1])),
        case("layer_norm", &[a, &[4], &[4]], any, |x| x[0].layer_norm(&x[1], &x[2], 1e-6)),
        case("reshape", &[a], any, |x| x[0].reshape(&[4, 6])),
        case("permute", &[a], any, |x| x[0].permute(&[2, 0, 1])),
        case("broadcast_to", &[b], any, |x| x[0].broadcast_to(&[2, 3, 4])),
        case("narrow", &[a], any, |x| x[0].narrow(2, 1, 2)),
        case("concat", &[a, &[2, 2, 4]], any, |x| Tensor::concat(&[&x[0], &x[1], &x[0]], 1)),
        case("index_select", &[a], any, |x| x[0].index_select(1, &[2, 0, 2])),
        case("retain", &[a], any, |x| x[0].try_clone()),
        case("resize_linear", &[&[2, 3, 2, 4]], any, |x| x[0].resize_linear([3, 4, 7])),
        case("resize_linear", &[&[3, 4, 5]], any, |x| x[0].resize_linear([2, 8, 3])),
    ];
    // Input, weight, stride, padding: with and without a batch, strides that leave a rest.
    type Convolution<'a> = (&'a [usize], &'a [usize], [usize; 3], [usize; 3]);
    let convolutions: [Convolution<'_>; 5] = [
        (&[2, 3, 4, 5], &[3, 2, 3, 3, 3], [1, 1, 1], [1, 1, 1]),
        (&[2, 2, 3, 3, 4], &[5, 2, 2, 1, 3], [1, 1, 1], [0, 1, 2]),
        (&[1, 4, 5, 6], &[2, 1, 3, 2, 3], [2, 1, 3], [1, 0, 2]),
        (&[5, 2, 2, 2], &[1, 5, 1, 1, 1], [1, 1, 1], [0, 0, 0]),
        (&[1, 2, 2, 2], &[1, 1, 1, 2, 1], [1, 2, 1], [1, 2, 0]),
    ];
    for (input, weight, stride, padding) in convolutions {
        all.push(case("conv3d", &[input, weight], any, move |x| x[0].conv3d(&x[1], stride, padding)));
    }
    for axis in 0..3 {
        all.push(case("sum", &[a], any, move |x| x[0].sum(axis)));
        all.push(case("mean", &[a], any, move |x| x[0].mean(axis)));
        all.push(case("max", &[a], any, move |x| x[0].max(axis)));
        all.push(case("min", &[a], any, move |x| x[0].min(axis)));
        all.push(case("median", &[a], any, move |x| x[0].median(axis)));
        all.push(case("softmax", &[a], any, move |x| x[0].softmax(axis)));
        all.push(case("log_softmax", &[a], any, move |x| x[0].log_softmax(axis)));
    }
    all
}

/// `Σ w · out` with fixed weights, added up in f64.
fn weighted(out: &Tensor) -> f64 {
    let out = out.to_vec().unwrap();
    let w = values(out.len(), 31, (-1.0, 1.0));
    out.iter().zip(w).map(|(o, w)| f64::from(*o) * f64::from(w)).sum()
}

#[test]
fn every_differentiable_operation_agrees_with_central_differences() {
    let context = Context::new(0);
    for Case { name, shapes, range, run } in differentiable() {
        let drawn: Vec<Vec<f32>> =
            shapes.iter().enumerate().map(|(i, s)| values(s.iter().product(), 17 * i, range)).collect();
        let inputs: Vec<Tensor> =
            drawn.iter().zip(&shapes).map(|(v, s)| context.variable(v, s).unwrap()).collect();
        let out = run(&inputs).unwrap_or_else(|e| panic!("{name}: {e}"));
        let dims = out.dims().unwrap();
        let w = context.tensor(&values(dims.iter().product(), 31, (-1.0, 1.0)), &dims).unwrap();
        let gradients = context.gradients(&out.mul(&w).unwrap().sum_all().unwrap()).unwrap();
        for (i, input) in inputs.iter().enumerate() {
            let analytic = gradients.of(input).unwrap_or_else(|| panic!("{name}: no gradient for input {i}"));
            for (j, analytic) in analytic.iter().enumerate() {
                let at = |step: f32| {
                    let moved = drawn.iter().zip(&shapes).enumerate().map(|(k, (v, s))| {
                        let mut v = v.clone();
                        if k == i {
                            v[j] += step;
                        }
                        context.tensor(&v, s).unwrap()
                    });
                    weighted(&run(&moved.collect::<Vec<_>>()).unwrap())
                };
                // In f32: a step of 2^-7 leaves a rounding error of about 1e-5 and a third derivative's of as much.
                let h = 0.0078125;
                let numeric = (at(h) - at(-h)) / (2.0 * f64::from(h));
                let error = (f64::from(*analytic) - numeric).abs() / numeric.abs().max(1.0);
                assert!(error < 2e-3, "{name}: input {i}[{j}]: {analytic} against {numeric}");
            }
        }
    }
    assert_eq!(context.live_handles(), 0, "a handle was not given back");
}

type Refused = (&'static str, fn(&[Tensor]) -> Result<Tensor>);
const WITHOUT_GRADIENT: [Refused; 7] = [
    ("sign", |x| x[0].sign()),
    ("floor", |x| x[0].floor()),
    ("round", |x| x[0].round()),
    ("greater", |x| x[0].greater(&x[1])),
    ("greater_equal", |x| x[0].greater_equal(&x[1])),
    ("equal", |x| x[0].equal(&x[1])),
    ("argmax", |x| x[0].argmax(1)),
];

#[test]
fn every_operation_is_either_tested_for_its_gradient_or_refuses_one() {
    let tested: Vec<&str> = differentiable().iter().map(|c| c.name).collect();
    let codes = UnaryOp::ALL.iter().map(|o| o.name());
    let codes =
        codes.chain(BinaryOp::ALL.iter().map(|o| o.name())).chain(ReduceOp::ALL.iter().map(|o| o.name()));
    for op in codes.chain(named::ALL.iter().map(|(name, _)| *name)) {
        let refused = WITHOUT_GRADIENT.iter().any(|(name, _)| *name == op);
        assert!(tested.contains(&op) != refused, "{op}: tested and refused, or neither");
    }
}

#[test]
fn an_operation_without_a_gradient_refuses_a_backward_pass_and_passes_when_detached() {
    let context = Context::new(0);
    for (name, run) in WITHOUT_GRADIENT {
        let x = [0, 5].map(|offset| context.variable(&values(6, offset, (-2.0, 2.0)), &[2, 3]).unwrap());
        let blocked = run(&x).unwrap().sum_all().unwrap();
        let refusal = context.gradients(&blocked).err().unwrap();
        assert_eq!(refusal.code(), ErrorCode::NO_GRADIENT);
        assert!(refusal.message().contains(&format!("op `{name}` has no gradient")), "{refusal}");
        let open = run(&x).unwrap().detach().unwrap().sum_all().unwrap().add(&x[0].sum_all().unwrap());
        assert_eq!(context.gradients(&open.unwrap()).unwrap().of(&x[0]), Some(vec![1.0; 6]));
    }
}

#[test]
fn ties_share_the_gradient_of_a_maximum() {
    let context = Context::new(0);
    let x = context.variable(&[1.0, 3.0, 3.0], &[3]).unwrap();
    assert_eq!(context.gradients(&x.max(0).unwrap()).unwrap().of(&x), Some(vec![0.0, 0.5, 0.5]));
}

#[test]
fn a_step_of_training_changes_a_parameter_under_every_handle_to_it() {
    let context = Context::new(4);
    let params = crate::Params::new(context.host());
    let p = params.get("p", &[2], crate::Init::ones()).unwrap();
    let before = p.scale(2.0).unwrap();
    context.set("p", &[5.0, 7.0]).unwrap();
    assert_eq!(p.to_vec().unwrap(), [5.0, 7.0]);
    // What was computed before keeps what it was computed from.
    assert_eq!(before.to_vec().unwrap(), [2.0, 2.0]);
    assert_eq!(
        context.gradients(&p.square().unwrap().sum_all().unwrap()).unwrap().get("p"),
        Some(&[10.0, 14.0][..])
    );
}
