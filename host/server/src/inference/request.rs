//! An inference request: JSON, and behind it the bytes of binary tensors (Triton's extension).

use super::tensor::{DataType, Flat, Numbers, Tensor};
use crate::error::ApiError;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Most inputs and outputs of a request.
const TENSORS: usize = 64;
/// The parameter of an output that asks for it as bytes.
const BINARY: &str = "binary_data";

#[derive(Deserialize)]
struct RawInput {
    name: String,
    shape: Vec<usize>,
    datatype: DataType,
    #[serde(default)]
    parameters: Map<String, Value>,
    data: Option<Flat>,
}

#[derive(Deserialize)]
struct RawOutput {
    name: String,
    #[serde(default)]
    parameters: Map<String, Value>,
}

#[derive(Deserialize)]
struct RawRequest {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    parameters: Map<String, Value>,
    inputs: Vec<RawInput>,
    #[serde(default)]
    outputs: Vec<RawOutput>,
}

/// An output that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WantedOutput {
    pub name: String,
    /// As bytes behind the JSON.
    pub binary: bool,
}

/// A request taken apart.
pub(crate) struct InferRequest<'a> {
    pub id: Option<String>,
    pub inputs: Vec<Tensor<'a>>,
    /// Empty: all that cost nothing.
    pub outputs: Vec<WantedOutput>,
    /// Whether outputs that say nothing of it come as bytes.
    pub binary: bool,
    /// As the request's parameters say it.
    pub modality: Option<String>,
}

/// A parameter that says yes or no.
fn flag(parameters: &Map<String, Value>, name: &str) -> Result<Option<bool>, ApiError> {
    let Some(value) = parameters.get(name) else { return Ok(None) };
    let refuse = || ApiError::bad_request(format!("parameter {name} is {value}; expected true or false"));
    value.as_bool().map(Some).ok_or_else(refuse)
}

fn wanted(output: RawOutput, all_binary: bool) -> Result<WantedOutput, ApiError> {
    let RawOutput { name, parameters } = output;
    // Triton's clients ask for classes or for shared memory by them: who is answered otherwise would read something else.
    if let Some(other) = parameters.keys().find(|key| *key != BINARY) {
        let (name, other) = (shown(&name), shown(other));
        let message = format!("output `{name}`: parameter `{other}` is not known; expected {BINARY} or none");
        return Err(ApiError::bad_request(message));
    }
    Ok(WantedOutput { binary: flag(&parameters, BINARY)?.unwrap_or(all_binary), name })
}

impl<'a> InferRequest<'a> {
    /// Takes a body apart. `json_bytes`: what the header Inference-Header-Content-Length says, counted in the body as it is
    /// after decompression; all of it where the header is missing.
    pub fn parse(body: &'a [u8], json_bytes: Option<usize>) -> Result<Self, ApiError> {
        let split = json_bytes.unwrap_or(body.len());
        let Some((json, mut binary)) = body.split_at_checked(split) else {
            return Err(ApiError::bad_request(format!(
                "Inference-Header-Content-Length says {split}, the body has {} bytes",
                body.len()
            )));
        };
        let raw: RawRequest = serde_json::from_slice(json)
            .map_err(|e| ApiError::bad_request(format!("the request is no inference request: {e}")))?;
        if raw.inputs.len() > TENSORS || raw.outputs.len() > TENSORS {
            return Err(ApiError::bad_request(format!("more than {TENSORS} inputs or outputs")));
        }
        let mut inputs: Vec<Tensor<'a>> = Vec::new();
        for input in raw.inputs {
            if inputs.iter().any(|before| before.name == input.name) {
                return Err(ApiError::bad_request(format!("input `{}` is given twice", shown(&input.name))));
            }
            inputs.push(tensor(input, &mut binary)?);
        }
        if !binary.is_empty() {
            let message = format!("{} bytes behind the last binary input belong to none", binary.len());
            return Err(ApiError::bad_request(message));
        }
        let all = flag(&raw.parameters, "binary_data_output")?.unwrap_or(false);
        let outputs = raw.outputs.into_iter().map(|output| wanted(output, all)).collect::<Result<_, _>>()?;
        let modality = match raw.parameters.get("modality") {
            None => None,
            Some(Value::String(modality)) => Some(modality.clone()),
            Some(other) => {
                let message = format!("parameter modality is {other}; expected text, for example \"CT\"");
                return Err(ApiError::bad_request(message));
            }
        };
        Ok(Self { id: raw.id, outputs, inputs, binary: all, modality })
    }

    /// An input by its name.
    pub fn input(&self, name: &str) -> Option<&Tensor<'a>> {
        self.inputs.iter().find(|input| input.name == name)
    }
}

/// A name as it may stand in a message: short, on one line.
pub(super) fn shown(name: &str) -> String {
    let plain: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
    plain
}

fn tensor<'a>(input: RawInput, binary: &mut &'a [u8]) -> Result<Tensor<'a>, ApiError> {
    let RawInput { name, shape, datatype, parameters, data } = input;
    let name = shown(&name);
    let wrong = |what: String| ApiError::bad_request(format!("input `{name}`: {what}"));
    let count =
        Tensor::elements(&shape).ok_or_else(|| wrong(format!("shape {shape:?} has too many elements")))?;
    let numbers = match (parameters.get("binary_data_size"), data) {
        (Some(size), None) => {
            let size = size.as_u64().and_then(|size| usize::try_from(size).ok());
            let Some((bytes, rest)) = size.and_then(|size| binary.split_at_checked(size)) else {
                return Err(wrong(
                    "binary_data_size is more than the bytes that came behind the JSON".into(),
                ));
            };
            *binary = rest;
            if datatype.size().is_some_and(|size| count.checked_mul(size) != Some(bytes.len())) {
                return Err(wrong(format!(
                    "found {} bytes for {datatype:?} of shape {shape:?}",
                    bytes.len()
                )));
            }
            Numbers::Binary(bytes)
        }
        (None, Some(Flat(numbers))) if numbers.len() == count && datatype != DataType::Bytes => {
            Numbers::Plain(numbers)
        }
        (None, Some(Flat(numbers))) => {
            return Err(wrong(format!(
                "found {} numbers for {datatype:?} of shape {shape:?}",
                numbers.len()
            )));
        }
        (Some(_), Some(_)) => {
            return Err(wrong("has data and binary_data_size; expected one of them".into()));
        }
        (None, None) => return Err(wrong("has neither data nor binary_data_size".into())),
    };
    Ok(Tensor { name, shape, datatype, numbers })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &[u8], json: Option<usize>) -> String {
        InferRequest::parse(body, json).map(|_| ()).unwrap_err().message
    }

    #[test]
    fn json_and_binary_tensors_give_the_same_numbers() {
        let json = br#"{"id":"7","inputs":[{"name":"v","shape":[1,2,2],"datatype":"FP32","data":[[[0.1,-2],[3e2,4]]]}]}"#;
        let plain = InferRequest::parse(json, None).unwrap();
        let numbers = [0.1f32, -2.0, 300.0, 4.0];
        assert_eq!((plain.id.as_deref(), plain.inputs[0].f32s().unwrap()), (Some("7"), numbers.to_vec()));
        let head = br#"{"inputs":[{"name":"v","shape":[1,2,2],"datatype":"FP32","parameters":{"binary_data_size":16}}],"outputs":[{"name":"p","parameters":{"binary_data":true}},{"name":"q"}]}"#;
        let body = [&head[..], &numbers.map(f32::to_le_bytes).concat()].concat();
        let binary = InferRequest::parse(&body, Some(head.len())).unwrap();
        assert_eq!(binary.input("v").unwrap().f32s().unwrap(), numbers);
        let asked: Vec<(&str, bool)> = binary.outputs.iter().map(|o| (o.name.as_str(), o.binary)).collect();
        assert_eq!(asked, [("p", true), ("q", false)]);
    }

    #[test]
    fn a_parameter_that_would_change_the_answer_and_is_not_understood_is_refused() {
        for (rest, said) in [
            (
                r#""outputs":[{"name":"p","parameters":{"classification":2}}]"#,
                "`classification` is not known",
            ),
            (r#""outputs":[{"name":"p","parameters":{"shared_memory_region":"r"}}]"#, "output `p`"),
            (r#""outputs":[{"name":"p","parameters":{"binary_data":"yes"}}]"#, "expected true or false"),
            (r#""parameters":{"binary_data_output":1}"#, "binary_data_output is 1"),
            (r#""parameters":{"modality":7}"#, "modality is 7; expected text"),
        ] {
            let found = message(format!(r#"{{"inputs":[],{rest}}}"#).as_bytes(), None);
            assert!(found.contains(said), "{rest}: {found}");
        }
        // What another server would schedule by changes no answer.
        let other = br#"{"inputs":[],"parameters":{"priority":1,"timeout":9}}"#;
        assert!(InferRequest::parse(other, None).is_ok());
    }

    #[test]
    fn what_does_not_fit_its_shape_is_refused_before_it_is_allocated() {
        let with =
            |rest: &str| format!(r#"{{"inputs":[{{"name":"v","datatype":"FP32",{rest}}}]}}"#).into_bytes();
        for (rest, said) in [
            (r#""shape":[2],"data":[1]"#, "found 1 numbers"),
            (r#""shape":[2]"#, "neither data nor"),
            (r#""shape":[4294967296,4294967296],"data":[1]"#, "too many elements"),
            (r#""shape":[1],"parameters":{"binary_data_size":4}"#, "more than the bytes"),
            (r#""shape":[1],"parameters":{"binary_data_size":-4}"#, "more than the bytes"),
            (r#""shape":[-1],"data":[1]"#, "no inference request"),
            (r#""shape":[1],"data":["1"]"#, "no inference request"),
        ] {
            let found = message(&with(rest), None);
            assert!(found.contains(said), "{rest}: {found}");
        }
        assert!(message(b"{}", Some(3)).contains("the body has 2 bytes"));
        let body = br#"{"inputs":[]}...."#;
        assert!(message(body, Some(13)).contains("4 bytes behind"));
        assert!(message(b"[", None).contains("no inference request"));
    }
}
