//! Every differentiable operation of the table against central differences in f64, called as a plugin calls it.

use super::device;
use crate::plugin::{Context, ParameterSource, host_ops, ops};
use anymc3d_plugin_api::abi::named;
use anymc3d_plugin_api::abi::types::{BinaryOp, ReduceOp, UnaryOp};
use anymc3d_plugin_api::{Host, Result, Tensor as Seen};
use candle_core::{DType, Tensor, Var};
use std::collections::BTreeMap;

type Operation = Box<dyn Fn(&[Seen]) -> Result<Seen>>;

struct Case {
    name: String,
    shapes: Vec<Vec<usize>>,
    /// Inputs are drawn between these, away from kinks by construction of the values.
    range: (f64, f64),
    run: Operation,
}

fn case(
    name: &str,
    shapes: &[&[usize]],
    range: (f64, f64),
    run: impl Fn(&[Seen]) -> Result<Seen> + 'static,
) -> Case {
    Case {
        name: name.to_owned(),
        shapes: shapes.iter().map(|s| s.to_vec()).collect(),
        range,
        run: Box::new(run),
    }
}

/// Distinct values in a fixed shuffled order: no ties, no zero, steps far larger than the difference quotient's.
fn values(n: usize, offset: usize, (low, high): (f64, f64)) -> Vec<f64> {
    (0..n).map(|i| low + (high - low) * ((((i + offset) * 7919 + 13) % 101) as f64 + 0.37) / 102.0).collect()
}

fn differentiable() -> Vec<Case> {
    let any = (-2.0, 2.0);
    let positive = (0.3, 3.0);
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
        case("softplus", &[a], (-30.0, 30.0), |x| x[0].softplus()),
        case("add", &[a, b], any, |x| x[0].add(&x[1])),
        case("sub", &[a, b], any, |x| x[0].sub(&x[1])),
        case("mul", &[a, b], any, |x| x[0].mul(&x[1])),
        case("div", &[a, b], positive, |x| x[0].div(&x[1])),
        case("maximum", &[a, b], any, |x| x[0].maximum(&x[1])),
        case("minimum", &[a, b], any, |x| x[0].minimum(&x[1])),
        case("affine", &[a], any, |x| x[0].affine(-1.7, 0.3)),
        case("power", &[a], positive, |x| x[0].power(1.7)),
        case("power", &[a], positive, |x| x[0].power(0.0)?.mul(&x[0])),
        case("clamp", &[a], any, |x| x[0].clamp(-0.61, 0.83)),
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
        case("concat", &[a, &[2, 2, 4]], any, |x| Seen::concat(&[&x[0], &x[1], &x[0]], 1)),
        case("index_select", &[a], any, |x| x[0].index_select(1, &[2, 0, 2])),
        case("retain", &[a], any, |x| x[0].try_clone()),
        case("resize_linear", &[&[2, 3, 2, 4]], any, |x| x[0].resize_linear([3, 4, 7])),
        case("resize_linear", &[&[3, 4, 5]], any, |x| x[0].resize_linear([2, 8, 3])),
    ];
    // Input, weight, stride, padding: with and without a batch, more channels than a block, strides that leave a rest.
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

fn context() -> (&'static Context, Host) {
    let source = ParameterSource::Training { seed: 0, start: BTreeMap::new() };
    let context = Context::create("gradients", DType::F64, device(), source);
    (context, Host::new(host_ops(), context.id()))
}

/// `Σ w · f(x)` with fixed weights, so that every element of the gradient is seen.
fn weighted(case: &Case, inputs: &[Tensor], context: &Context, host: Host) -> Tensor {
    let seen: Vec<Seen> = inputs.iter().map(|t| host.adopt(context.put(t.clone()))).collect();
    let out = (case.run)(&seen).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    let out = context.get(out.handle()).unwrap();
    let w = values(out.elem_count(), 31, (-1.0, 1.0));
    let w = Tensor::from_vec(w, out.shape(), &device()).unwrap();
    (out * w).unwrap().sum_all().unwrap()
}

#[test]
fn every_differentiable_operation_agrees_with_central_differences() {
    let (context, host) = context();
    for case in differentiable() {
        let vars: Vec<Var> = case
            .shapes
            .iter()
            .enumerate()
            .map(|(i, shape)| {
                let v = values(shape.iter().product(), 17 * i, case.range);
                Var::from_tensor(&Tensor::from_vec(v, shape.as_slice(), &device()).unwrap()).unwrap()
            })
            .collect();
        let inputs: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let grads = weighted(&case, &inputs, context, host).backward().unwrap();
        for (i, var) in vars.iter().enumerate() {
            let analytic =
                grads.get(var).unwrap_or_else(|| panic!("{}: no gradient for input {i}", case.name));
            let analytic: Vec<f64> = analytic.flatten_all().unwrap().to_vec1().unwrap();
            let at: Vec<f64> = var.flatten_all().unwrap().to_vec1().unwrap();
            for j in 0..at.len() {
                let value = |step: f64| {
                    let mut moved = at.clone();
                    moved[j] += step;
                    let mut inputs = inputs.iter().map(Tensor::detach).collect::<Vec<_>>();
                    inputs[i] = Tensor::from_vec(moved, var.shape(), &device()).unwrap();
                    weighted(&case, &inputs, context, host).to_scalar::<f64>().unwrap()
                };
                let h = 1e-5;
                let numeric = (value(h) - value(-h)) / (2.0 * h);
                let error = (analytic[j] - numeric).abs() / numeric.abs().max(1.0);
                assert!(error < 1e-6, "{}: input {i}[{j}]: {} against {numeric}", case.name, analytic[j]);
            }
        }
    }
    assert_eq!(context.live_handles(), 0, "a handle was not given back");
}

#[test]
fn every_operation_of_the_table_is_either_tested_for_its_gradient_or_listed_without_one() {
    let names: Vec<String> = differentiable().into_iter().map(|c| c.name).collect();
    let codes = UnaryOp::ALL.iter().map(|o| o.name());
    let codes =
        codes.chain(BinaryOp::ALL.iter().map(|o| o.name())).chain(ReduceOp::ALL.iter().map(|o| o.name()));
    let codes = codes.chain(named::ALL.iter().map(|(name, _)| *name));
    for op in codes {
        let listed = ops::WITHOUT_GRADIENT.contains(&op);
        assert!(names.iter().any(|n| n == op) != listed, "{op}: tested and listed, or neither");
    }
}

#[test]
fn operations_without_a_gradient_refuse_a_backward_pass_and_pass_when_detached() {
    let run: [(&str, Operation); 7] = [
        ("sign", Box::new(|x| x[0].sign())),
        ("floor", Box::new(|x| x[0].floor())),
        ("round", Box::new(|x| x[0].round())),
        ("greater", Box::new(|x| x[0].greater(&x[1]))),
        ("greater_equal", Box::new(|x| x[0].greater_equal(&x[1]))),
        ("equal", Box::new(|x| x[0].equal(&x[1]))),
        ("argmax", Box::new(|x| x[0].argmax(1))),
    ];
    assert_eq!(run.iter().map(|(n, _)| *n).collect::<Vec<_>>(), ops::WITHOUT_GRADIENT);
    let (context, host) = context();
    for (name, run) in run {
        let var = Var::from_tensor(&Tensor::from_vec(values(6, 3, (-2.0, 2.0)), (2, 3), &device()).unwrap())
            .unwrap();
        let seen = || [0; 2].map(|_| host.adopt(context.put(var.as_tensor().clone())));
        let blocked = run(&seen()).unwrap();
        let refusal = context.get(blocked.handle()).unwrap().sum_all().unwrap().backward().unwrap_err();
        assert!(refusal.to_string().contains(&format!("op `{name}` has no gradient")), "{name}: {refusal}");
        let open = run(&seen()).unwrap().detach().unwrap();
        let sum = (context.get(open.handle()).unwrap().sum_all().unwrap() + var.sum_all().unwrap()).unwrap();
        assert!(sum.backward().unwrap().get(&var).is_some());
    }
}

#[test]
fn softplus_has_the_gradient_of_the_sigmoid_at_zero_where_its_pieces_have_kinks() {
    let x = Var::from_tensor(&Tensor::zeros(1, DType::F64, &device()).unwrap()).unwrap();
    let y = ops::unary(UnaryOp::SOFTPLUS, x.as_tensor()).unwrap();
    let gradient = y.sum_all().unwrap().backward().unwrap().get(&x).unwrap().to_vec1::<f64>().unwrap();
    assert!((gradient[0] - 0.5).abs() < 1e-15);
}

#[test]
fn ties_share_the_gradient_of_a_maximum() {
    let x = Var::from_tensor(&Tensor::new(&[1.0f64, 3.0, 3.0], &device()).unwrap()).unwrap();
    let y = ops::reduce(ReduceOp::MAX, x.as_tensor(), 0).unwrap();
    let gradient = y.sum_all().unwrap().backward().unwrap().get(&x).unwrap().to_vec1::<f64>().unwrap();
    assert_eq!(gradient, [0.0, 0.5, 0.5]);
}
