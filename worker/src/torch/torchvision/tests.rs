//! The operators give the answers of torchvision (`tests/fixtures/make_operators.py`).

use std::path::Path;

use serde_json::Value;
use tch::{CModule, IValue, Kind, Tensor};

use super::register_operators;
use crate::torch::{Device, DeviceChoice};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/operators");
/// The form for the CPU, and the form for all devices.
const FORMS: [&str; 2] = ["", "_anywhere"];

fn module() -> CModule {
    register_operators().expect("registers");
    let path = Path::new(FOLDER).join("operators.pt");
    CModule::load(path).expect("all operators are registered")
}

fn cases(operator: &str) -> Vec<Value> {
    let answers = std::fs::read(Path::new(FOLDER).join("answers.json")).expect("a file");
    let answers: Value = serde_json::from_slice(&answers).expect("JSON");
    answers[operator].as_array().expect("cases").clone()
}

fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).expect("numbers")
}

fn integers(value: &Value) -> Vec<i64> {
    serde_json::from_value(value.clone()).expect("integers")
}

fn floats(value: &Value, size: &[i64]) -> Tensor {
    let tensor = Tensor::from_slice(&numbers(value)).to_kind(Kind::Float);
    tensor.reshape(size)
}

/// The function `pattern` of `make_operators.py`.
fn pattern(seed: i64, size: &[i64]) -> Tensor {
    let numbers = (0..size.iter().product::<i64>())
        .map(|i| ((3 * i * i + 37 * i + 11 * seed) % 997) as f64 / 997.0 - 0.5);
    let numbers: Vec<f64> = numbers.collect();
    Tensor::from_slice(&numbers)
        .to_kind(Kind::Float)
        .reshape(size)
}

fn call(module: &CModule, method: &str, args: &[IValue]) -> Tensor {
    match module.method_is(method, args) {
        Ok(IValue::Tensor(output)) => output,
        other => panic!("{method}: {other:?}"),
    }
}

fn assert_close(output: &Tensor, expected: &Value, what: &str) {
    let expected = floats(expected, &output.size());
    let difference = (output - expected).abs();
    let largest = if difference.numel() == 0 {
        0.0
    } else {
        difference.max().double_value(&[])
    };
    assert!(largest < 1e-5, "{what}: {largest}");
}

#[test]
fn nms_keeps_the_boxes_that_torchvision_keeps() {
    let module = module();
    for case in cases("nms") {
        let boxes = floats(&case["boxes"], &[-1, 4]);
        let scores = floats(&case["scores"], &[-1]);
        let iou = case["iou"].as_f64().expect("a number");
        for form in FORMS {
            let args: [IValue; 3] = [
                boxes.shallow_clone().into(),
                scores.shallow_clone().into(),
                iou.into(),
            ];
            let kept = call(&module, &format!("nms{form}"), &args);
            let kept = Vec::<i64>::try_from(kept).expect("indices");
            assert_eq!(kept, integers(&case["expected"]), "{form} {}", case["name"]);
        }
    }
}

#[test]
fn roi_align_gives_the_means_of_torchvision() {
    let module = module();
    for case in cases("roi_align") {
        let input = pattern(1, &integers(&case["size"]));
        let regions = floats(&case["regions"], &[-1, 5]);
        let integer = |name: &str| IValue::from(case[name].as_i64().expect(name));
        for form in FORMS {
            let args: [IValue; 7] = [
                input.shallow_clone().into(),
                regions.shallow_clone().into(),
                case["scale"].as_f64().expect("a number").into(),
                integer("rows"),
                integer("columns"),
                integer("samples"),
                case["aligned"].as_bool().expect("a boolean").into(),
            ];
            let output = call(&module, &format!("roi_align{form}"), &args);
            let size = [regions.size()[0], 3, 3, 2];
            assert_eq!(output.size(), size);
            assert_close(&output, &case["expected"], &format!("{form} {case}"));
        }
    }
}

#[test]
fn a_region_without_a_place_is_zero_or_refused() {
    let module = module();
    let input = pattern(1, &[1, 2, 5, 5]);
    let align = |form: &str, region: [f32; 5]| {
        let args: [IValue; 7] = [
            input.shallow_clone().into(),
            Tensor::from_slice(&region).reshape([1, 5]).into(),
            1.0.into(),
            2_i64.into(),
            2_i64.into(),
            2_i64.into(),
            false.into(),
        ];
        module.method_is(&format!("roi_align{form}"), &args)
    };
    for form in FORMS {
        let nowhere = align(form, [0.0, f32::NAN, 0.0, f32::INFINITY, 3.0]);
        let nowhere = Tensor::try_from(nowhere.expect("runs")).expect("a tensor");
        let sum = nowhere.abs().sum(Kind::Float).double_value(&[]);
        assert!(sum < 1e-9, "{form}: {sum}");
    }
    for image in [-1.0, 1.0] {
        assert!(align("", [image, 0.0, 0.0, 3.0, 3.0]).is_err(), "{image}");
    }
}

#[test]
fn deform_conv2d_gives_the_sums_of_torchvision() {
    let module = module();
    for case in cases("deform_conv2d") {
        let shapes: Vec<Vec<i64>> = serde_json::from_value(case["shapes"].clone()).expect("shapes");
        let mut tensors: Vec<Tensor> = (0..)
            .zip(&shapes)
            .map(|(at, size)| pattern(at, size))
            .collect();
        tensors[2] = &tensors[2] * 6.0;
        for form in FORMS {
            let tensors = tensors
                .iter()
                .map(|tensor| IValue::from(tensor.shallow_clone()));
            let use_mask = case["use_mask"].as_bool().expect("a boolean");
            let rest = [integers(&case["sizes"]).into(), use_mask.into()];
            let args: Vec<IValue> = tensors.chain(rest).collect();
            let output = call(&module, &format!("deform_conv2d{form}"), &args);
            assert_close(
                &output,
                &case["expected"],
                &format!("{form} {}", case["sizes"]),
            );
        }
    }
}

/// Runs only where there is a GPU.
#[test]
fn on_a_gpu_the_operators_answer_on_the_gpu() {
    if Device::open(DeviceChoice::Cuda(0)).is_err() {
        return;
    }
    let module = module();
    let gpu = tch::Device::Cuda(0);
    let boxes = Tensor::from_slice(&[0.0_f32, 0.0, 4.0, 4.0, 0.0, 0.0, 4.0, 4.0]).reshape([2, 4]);
    let args: [IValue; 3] = [
        boxes.to_device(gpu).into(),
        Tensor::from_slice(&[0.5_f32, 0.6]).to_device(gpu).into(),
        0.5.into(),
    ];
    let kept = call(&module, "nms", &args);
    assert_eq!(kept.device(), gpu);
    assert_eq!(Vec::<i64>::try_from(kept).expect("indices"), [1]);
    for case in cases("roi_align") {
        let args: [IValue; 7] = [
            pattern(1, &integers(&case["size"])).to_device(gpu).into(),
            floats(&case["regions"], &[-1, 5]).to_device(gpu).into(),
            case["scale"].as_f64().expect("a number").into(),
            case["rows"].as_i64().expect("rows").into(),
            case["columns"].as_i64().expect("columns").into(),
            case["samples"].as_i64().expect("samples").into(),
            case["aligned"].as_bool().expect("a boolean").into(),
        ];
        let output = call(&module, "roi_align", &args);
        assert_eq!(output.device(), gpu);
        assert_close(
            &output.to_device(tch::Device::Cpu),
            &case["expected"],
            "on a GPU",
        );
    }
}
