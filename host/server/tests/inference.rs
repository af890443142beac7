//! The Open Inference Protocol, as its clients speak it.

mod common;

use common::{Choice, NEAR, Running, scan, serve};
use serde_json::{Value, json};

/// Voxels of a small scan as f32, from its file.
fn voxels(seed: usize) -> Vec<f32> {
    let bytes = scan(seed, NEAR);
    bytes[352..].as_chunks::<2>().0.iter().map(|b| f32::from(i16::from_le_bytes(*b))).collect()
}

const AFFINE: [f64; 16] = [9.0, 0.0, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 0.0, 12.0, 0.0, 0.0, 0.0, 0.0, 1.0];

fn request(seed: usize) -> Value {
    json!({ "id": "a", "inputs": [
        { "name": "voxels", "shape": [10, 20, 24], "datatype": "FP32", "data": voxels(seed) },
        { "name": "affine", "shape": [4, 4], "datatype": "FP64", "data": AFFINE },
    ]})
}

fn infer(server: &Running, request: &Value) -> common::Answer {
    server.ask("POST", "/v2/models/mean_probe/infer", &[], request.to_string().as_bytes())
}

fn output<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let all = answer["outputs"].as_array().unwrap_or_else(|| panic!("{answer}"));
    all.iter().find(|output| output["name"] == name).unwrap_or_else(|| panic!("no {name}: {answer}"))
}

#[test]
fn json_and_binary_tensors_answer_as_the_scan_does_to_the_bit() {
    let server = serve(Choice::default());
    let (job, _) = server.end(&server.submit(&scan(7, NEAR)));
    let probability = &job["results"][0]["predictions"][0]["probability"];
    let plain = infer(&server, &request(7)).json();
    assert_eq!(output(&plain, "probabilities")["data"], json!([probability]));
    assert_eq!((plain["model_name"].as_str(), plain["id"].as_str()), (Some("mean_probe"), Some("a")));
    assert_eq!(output(&plain, "slice_weights")["shape"], json!([5]));
    assert_eq!(plain["outputs"].as_array().unwrap().len(), 3, "no heatmap where nobody asked: {plain}");

    let head = json!({
        "inputs": [
            { "name": "voxels", "shape": [10, 20, 24], "datatype": "FP32", "parameters": { "binary_data_size": 19200 } },
            { "name": "affine", "shape": [4, 4], "datatype": "FP64", "parameters": { "binary_data_size": 128 } },
        ],
        "outputs": [
            { "name": "probabilities", "parameters": { "binary_data": true } },
            { "name": "heatmap", "parameters": { "binary_data": true } },
            { "name": "result" },
        ],
    })
    .to_string();
    let numbers = voxels(7).iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let affine = AFFINE.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let body = [head.as_bytes(), &numbers, &affine].concat();
    let length = head.len().to_string();
    // As tritonclient packs it: the length counts in the body as it is unpacked.
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &body).unwrap();
    let packed = packed.finish().unwrap();
    for (body, more) in [(&body, None), (&packed, Some(("content-encoding", "gzip")))] {
        let mut headers = vec![("inference-header-content-length", length.as_str())];
        headers.extend(more);
        let answer = server.ask("POST", "/v2/models/mean_probe/versions/0.1.0/infer", &headers, body);
        assert_eq!(answer.status, 200, "{}", answer.error());
        let split: usize = answer.headers["inference-header-content-length"].parse().unwrap();
        let json: Value = serde_json::from_slice(&answer.body[..split]).unwrap();
        let bytes = &answer.body[split..];
        assert_eq!(f64::from_le_bytes(bytes[..8].try_into().unwrap()), probability.as_f64().unwrap());
        assert_eq!(output(&json, "heatmap")["shape"], json!([10, 20, 24]));
        assert_eq!(output(&json, "heatmap")["parameters"]["binary_data_size"], 4 * 4800);
        let heat: Vec<f32> = bytes[8..].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        assert!(heat.len() == 4800 && heat.iter().any(|v| *v > 0.0));
        let result: Value =
            serde_json::from_str(output(&json, "result")["data"][0].as_str().unwrap()).unwrap();
        assert_eq!(result["input"]["path"], "voxels.nii");
    }
    assert_eq!(
        std::fs::read_dir(server.data.join("requests")).unwrap().count(),
        0,
        "nothing is left of requests"
    );
}

#[test]
fn metadata_and_health_are_as_the_protocol_says() {
    let server = serve(Choice::default());
    for path in ["/v2/health/live", "/v2/health/ready", "/v2/models/mean_probe/ready", "/healthz", "/readyz"]
    {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    assert_eq!(server.get("/v2").json()["name"], "anymc3d");
    assert_eq!(server.get("/v2/models").json()["models"], json!(["mean_probe"]));
    let model = server.get("/v2/models/mean_probe").json();
    assert_eq!(model["versions"], json!(["0.1.0"]));
    assert_eq!(model["inputs"][0], json!({ "name": "voxels", "datatype": "FP32", "shape": [-1, -1, -1] }));
    assert_eq!(model["outputs"][0], json!({ "name": "probabilities", "datatype": "FP64", "shape": [1] }));
    assert_eq!(model["parameters"]["labels"], "nodule");
}

#[test]
fn what_a_model_cannot_answer_is_refused_in_the_protocols_form() {
    let server = serve(Choice::default());
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut asked = request(1);
        edit(&mut asked);
        infer(&server, &asked)
    };
    type Edit<'a> = &'a dyn Fn(&mut Value);
    let cases: [(Edit<'_>, &str); 9] = [
        (&|r| r["inputs"][0]["shape"] = json!([20, 24]), "found 4800 numbers"),
        (&|r| r["inputs"][0]["shape"] = json!([1, 10, 20, 24]), "expected [D,H,W]"),
        (&|r| r["inputs"][0]["name"] = json!("image"), "no input is called `image`"),
        (&|r| drop(r["inputs"].as_array_mut().unwrap().pop()), "input `affine`: expected"),
        (&|r| r["inputs"][1]["data"] = json!(vec![0; 16]), "three independent axes"),
        (&|r| r["outputs"] = json!([{ "name": "masks" }]), "no output is called `masks`"),
        (&|r| r["parameters"] = json!({ "modality": "MR" }), "found MR, expected CT"),
        (&|r| r["inputs"][0]["datatype"] = json!("FP8"), "no inference request"),
        (&|r| r["inputs"][0]["data"] = json!(vec![0; 4800]), "every voxel is 0"),
    ];
    for (edit, said) in cases {
        let answer = edited(edit);
        assert!(answer.status == 400 && answer.error().contains(said), "{said}: {answer:?}");
    }
    let post = |path: &str| server.ask("POST", path, &[], request(1).to_string().as_bytes()).status;
    assert_eq!([post("/v2/models/other/infer"), post("/v2/models/mean_probe/versions/9/infer")], [404, 404]);
    assert_eq!(infer(&server, &json!({ "inputs": [] })).status, 400);
    assert_eq!(edited(&|_| ()).status, 200, "the server goes on");
}
