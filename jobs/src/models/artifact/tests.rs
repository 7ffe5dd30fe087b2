//! Every kind of file that people push, by `tests/fixtures/make_artifacts.py`.

use std::{fs::File, io::Cursor, path::PathBuf};

use super::{ArtifactKind, find_damage, recognize, recognize_path};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/artifacts"
    ))
    .join(name)
}

fn kind(name: &str) -> ArtifactKind {
    let path = fixture(name);
    recognize_path(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn of(bytes: &[u8]) -> ArtifactKind {
    recognize(Cursor::new(bytes), bytes.len() as u64).expect("memory can be read")
}

#[test]
fn each_kind_of_file_is_recognized() {
    for (name, code) in [
        ("torchscript.pt", "torchscript"),
        ("aoti.pt2", "aot_inductor"),
        ("aoti-source.pt2", "aot_inductor_source"),
        ("exported.pt2", "exported_program"),
        ("exported-2.7.pt2", "exported_program"),
        ("state-dict.pth", "state_dict"),
        ("state-dict-legacy.pth", "state_dict"),
        ("checkpoint.pt", "state_dict"),
        ("module.pt", "pickled_module"),
        ("module-legacy.pt", "pickled_module"),
        ("module-in-checkpoint.pt", "pickled_module"),
        ("module-protocol-4.pt", "pickled_module"),
        ("object.pkl", "pickled_object"),
        ("weights.safetensors", "safetensors"),
        ("model.onnx", "onnx"),
        ("lfs-pointer.pt", "lfs_pointer"),
        ("cut-off.pt", "cut_off"),
        ("cut-inside.pt", "cut_off"),
        ("empty.pt", "empty"),
        ("login.pt", "web_page"),
        ("denied.pt", "xml"),
        ("saved_model.pb", "saved_model"),
        ("model.h5", "keras"),
        ("model.keras", "keras"),
        ("model.tflite", "tflite"),
        ("model.engine", "tensorrt"),
        ("ultralytics.engine", "tensorrt"),
        ("model.tar", "archive"),
        ("model.pt.gz", "archive"),
        ("zipped.zip", "archive"),
        ("model.mar", "torchserve"),
        ("library.so", "shared_library"),
        ("arrays.npz", "numpy"),
        ("source.py", "text"),
        ("noise.bin", "unknown"),
        (".", "folder"),
    ] {
        let kind = kind(name);
        assert_eq!(kind.code(), code, "{name}: {kind:?}");
        let runs = ["torchscript", "aot_inductor"].contains(&code);
        assert_eq!(kind.can_run(), runs, "{name}");
        assert_eq!(kind.what_to_do(name).is_empty(), runs, "{name}");
        assert!(!kind.what_it_is().is_empty(), "{name}");
    }
}

#[test]
fn the_class_of_a_pickled_module_is_named() {
    for name in ["module.pt", "module-legacy.pt", "module-protocol-4.pt"] {
        let kind = kind(name);
        assert!(
            kind.what_it_is().contains("`own_nets.OwnNet`"),
            "{name}: {kind:?}"
        );
        let recipe = kind.what_to_do(name);
        assert!(
            recipe.contains("own_nets") && recipe.contains(name),
            "{recipe}"
        );
    }
    let kind = kind("module-in-checkpoint.pt");
    let (class, key) = ("own_nets.OwnNet".to_owned(), Some("model".to_owned()));
    assert_eq!(kind, ArtifactKind::PickledModule { class, key });
}

#[test]
fn the_weights_of_a_checkpoint_are_named_by_their_key() {
    let key = Some("state_dict".to_owned());
    assert_eq!(kind("checkpoint.pt"), ArtifactKind::StateDict { key });
    assert_eq!(
        kind("state-dict.pth"),
        ArtifactKind::StateDict { key: None }
    );
    assert!(
        kind("checkpoint.pt")
            .what_to_do("c.pt")
            .contains(r#"["state_dict"])"#)
    );
}

#[test]
fn torchscript_tells_its_methods_and_the_operators_that_workers_lack() {
    let ArtifactKind::TorchScript(code) = kind("torchscript.pt") else {
        panic!("not TorchScript");
    };
    let methods = code.methods.expect("short code");
    assert!(
        methods.contains("forward") && methods.contains("embed"),
        "{methods:?}"
    );
    let lacking = kind("roi-pool.pt");
    assert!(!lacking.can_run());
    assert!(
        lacking.what_it_is().contains("torchvision::roi_pool"),
        "{lacking:?}"
    );
    assert!(
        !lacking.what_it_is().contains("torchvision::nms"),
        "{lacking:?}"
    );
}

#[test]
fn shipped_models_and_fixtures_of_tests_can_run() {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    for model in [
        "models/efficientnet-lite0",
        "tests/fixtures/picky",
        "tests/fixtures/tasks/tiles",
    ] {
        let path = root.join(model).join("model.pt");
        let bytes = std::fs::metadata(&path).expect("a file").len();
        let kind = recognize_path(&path).expect("a file");
        assert!(kind.can_run(), "{model}: {kind:?}");
        let damaged = find_damage(File::open(&path).expect("a file"), bytes);
        assert_eq!(damaged.expect("a file"), None, "{model}");
    }
}

#[test]
fn a_file_cut_anywhere_never_runs() {
    let whole = std::fs::read(fixture("torchscript.pt")).expect("a fixture");
    assert!(of(&whole).can_run());
    for length in 0..whole.len() {
        assert!(
            !of(&whole[..length]).can_run(),
            "{length} of {} bytes",
            whole.len()
        );
    }
}

#[test]
fn a_changed_byte_is_found_by_the_checksum_of_its_part() {
    let whole = std::fs::read(fixture("torchscript.pt")).expect("a fixture");
    let damaged = |bytes: &[u8]| {
        let reader = Cursor::new(bytes.to_vec());
        find_damage(reader, bytes.len() as u64).expect("memory can be read")
    };
    assert_eq!(damaged(&whole), None);
    // 64.5 as a float: the only weight of the fixture.
    let weight = 64.5_f32.to_le_bytes();
    let at = whole
        .windows(4)
        .position(|four| four == weight)
        .expect("the weight");
    let mut changed = whole.clone();
    changed[at] ^= 1;
    let damage = damaged(&changed).expect("damage").what_it_is();
    assert!(damage.contains("/data/0` do not fit"), "{damage}");
    assert!(of(&changed).can_run(), "only the checksum tells");
}

#[test]
fn a_table_of_contents_cannot_ask_for_memory_or_time() {
    // One entry, whose numbers all say 4 GiB; then an end that claims 65,535 entries.
    let mut bytes = b"PK\x03\x04".to_vec();
    bytes.resize(30, 0);
    let at = bytes.len() as u32;
    bytes.extend(b"PK\x01\x02");
    bytes.extend([0xff; 42]);
    let length = bytes.len() as u32 - at;
    bytes.extend(b"PK\x05\x06\0\0\0\0\xff\xff\xff\xff");
    bytes.extend(length.to_le_bytes());
    bytes.extend(at.to_le_bytes());
    bytes.extend([0, 0]);
    let (kind, peak) = fuzzing::peak_bytes(|| of(&bytes));
    assert!(!kind.can_run(), "{kind:?}");
    assert!(peak < 1 << 20, "{peak} bytes");
}
