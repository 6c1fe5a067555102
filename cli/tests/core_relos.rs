//! `btfleet core-relos`: both formats say the same, and what they say fits together.
#![expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples/objects")
}

fn core_relos(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_btfleet"));
    command.arg("core-relos").args(args).output().expect("btfleet runs")
}

fn unhex(text: &Value) -> Vec<u8> {
    let text = text.as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Takes the binary format apart.
struct Reader<'a> {
    bytes: &'a [u8],
    is_big: bool,
}

impl Reader<'_> {
    fn word(&mut self) -> u32 {
        let (word, rest) = self.bytes.split_first_chunk().expect("a word");
        self.bytes = rest;
        if self.is_big { u32::from_be_bytes(*word) } else { u32::from_le_bytes(*word) }
    }

    fn string(&mut self) -> Vec<u8> {
        let len = self.word() as usize;
        let (bytes, rest) = self.bytes.split_at(len.next_multiple_of(4));
        self.bytes = rest;
        bytes[..len].to_vec()
    }

    fn table(&mut self, width: usize) -> Vec<Vec<u32>> {
        (0..self.word()).map(|_| (0..width).map(|_| self.word()).collect()).collect()
    }
}

#[test]
fn both_formats_say_the_same() {
    let dir = samples();
    let dir = dir.to_str().unwrap();
    let json = core_relos(&[dir]);
    assert!(json.status.success(), "{json:?}");
    let document: Value = serde_json::from_slice(&json.stdout).unwrap();
    let binary = core_relos(&[dir, "--format", "bin"]);
    assert!(binary.status.success());
    let rest = binary.stdout.strip_prefix(b"BTFLPRG\x01").unwrap();
    let mut reader = Reader { bytes: rest, is_big: false };
    let (mut relos, mut calls) = (0, 0);
    for object in document["objects"].as_array().unwrap() {
        reader.is_big = object["byte_order"] == "big";
        assert_eq!(reader.string(), object["object"].as_str().unwrap().as_bytes());
        assert_eq!(reader.string(), unhex(&object["btf"]));
        let programs = object["programs"].as_array().unwrap();
        assert_eq!(reader.word() as usize, programs.len());
        for program in programs {
            assert_eq!(reader.string(), program["program"].as_str().unwrap().as_bytes());
            assert_eq!(reader.string(), program["section"].as_str().unwrap().as_bytes());
            let insns = unhex(&program["insns"]);
            assert_eq!(reader.string(), insns);
            for (name, width) in [("func_info", 2), ("line_info", 4), ("core_relos", 4)] {
                assert_eq!(serde_json::json!(reader.table(width)), program[name], "{name}");
            }
            let slots = u64::try_from(insns.len() / 8).unwrap();
            let starts: Vec<u64> =
                program["func_info"].as_array().unwrap().iter().map(|it| it[0].as_u64().unwrap()).collect();
            assert!(starts.first() == Some(&0) && starts.is_sorted() && starts.iter().all(|it| *it < slots));
            // Whatever a call between functions leads to is the start of one.
            for (slot, insn) in (0_i64..).zip(insns.as_chunks::<8>().0) {
                let (src, imm) = match reader.is_big {
                    false => (insn[1] >> 4, i32::from_le_bytes(*insn.last_chunk().unwrap())),
                    true => (insn[1] & 15, i32::from_be_bytes(*insn.last_chunk().unwrap())),
                };
                if insn[0] == 0x85 && src == 1 {
                    let to = u64::try_from(slot + 1 + i64::from(imm)).unwrap();
                    assert!(starts.contains(&to), "a call to {to}, functions start at {starts:?}");
                    calls += 1;
                }
            }
            relos += program["core_relos"].as_array().unwrap().len();
            let references = program["references"].as_array().unwrap();
            assert_eq!(reader.word() as usize, references.len());
            for reference in references {
                assert_eq!(reader.word(), reference["insn"]);
                assert_eq!(reader.word(), reference["offset"]);
                assert_eq!(reader.string(), reference["kind"].as_str().unwrap().as_bytes());
                assert_eq!(reader.string(), reference["name"].as_str().unwrap().as_bytes());
            }
        }
    }
    assert_eq!(reader.bytes, [0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
    assert!(relos > 100 && calls >= 7, "{relos} records, {calls} calls");
}

#[test]
fn what_cannot_be_read_is_said() {
    let object = samples().join("no-such-file.o");
    let output = core_relos(&[object.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(!output.stderr.is_empty());
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["complete"], false);
}
