//! Which devices the processes of a control group may use: a BPF program of type `BPF_PROG_TYPE_CGROUP_DEVICE`,
//! attached to the group (Documentation/admin-guide/cgroup-v2.rst, "Device controller"; bpf(2)).

use crate::{Context, Result};
use rustix::io::Errno;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// One permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// A block device, not a character device.
    pub block: bool,
    /// The major number; `None` is any.
    pub major: Option<u32>,
    /// The minor number; `None` is any.
    pub minor: Option<u32>,
    /// What is allowed, a sum of [`MKNOD`], [`READ`] and [`WRITE`].
    pub access: u32,
}

/// Making a node: `BPF_DEVCG_ACC_MKNOD`.
pub const MKNOD: u32 = 1;
/// Reading: `BPF_DEVCG_ACC_READ`.
pub const READ: u32 = 2;
/// Writing: `BPF_DEVCG_ACC_WRITE`.
pub const WRITE: u32 = 4;

/// An instruction: `struct bpf_insn` of `linux/bpf.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

// Instruction codes, linux/bpf_common.h and linux/bpf.h.
const LOAD_WORD: u8 = 0x61;
const MOVE_IMMEDIATE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND_IMMEDIATE: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_IF_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

// What the registers hold.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

/// Device types, `BPF_DEVCG_DEV_…`.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;

/// Most rules: the program stays below the kernel's 4096 instructions.
pub const RULE_LIMIT: usize = 400;

fn instruction(code: u8, target: u8, source: u8, immediate: i32) -> Instruction {
    Instruction { code, registers: source << 4 | target, offset: 0, immediate }
}

fn load(target: u8, offset: i16) -> Instruction {
    Instruction { offset, ..instruction(LOAD_WORD, target, CONTEXT, 0) }
}

/// The program: each rule is a block that allows, or falls through to the next; the end refuses.
fn program(rules: &[Rule]) -> Vec<Instruction> {
    // `struct bpf_cgroup_dev_ctx`: access in the upper half and type in the lower half of the first word.
    let mut code = vec![
        load(TYPE, 0),
        instruction(AND_IMMEDIATE, TYPE, 0, 0xffff),
        load(ACCESS, 0),
        instruction(SHIFT_RIGHT, ACCESS, 0, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    for rule in rules.iter().take(RULE_LIMIT) {
        let kind = if rule.block { BLOCK } else { CHARACTER };
        let mut block = vec![
            instruction(JUMP_IF_NOT_EQUAL, TYPE, 0, kind),
            // Every kind of access that is asked for must be allowed.
            instruction(MOVE_REGISTER, SCRATCH, ACCESS, 0),
            instruction(AND_IMMEDIATE, SCRATCH, 0, !rule.access.cast_signed()),
            instruction(JUMP_IF_NOT_EQUAL, SCRATCH, 0, 0),
        ];
        for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
            if let Some(number) = number {
                block.push(instruction(JUMP_IF_NOT_EQUAL, register, 0, number.cast_signed()));
            }
        }
        block.push(instruction(MOVE_IMMEDIATE, RESULT, 0, 1));
        block.push(instruction(EXIT, 0, 0, 0));
        let end = block.len();
        for (index, step) in block.iter_mut().enumerate() {
            if step.code == JUMP_IF_NOT_EQUAL {
                // Relative to the next instruction; a block has eight at most.
                step.offset = i16::try_from(end.saturating_sub(index).saturating_sub(1)).unwrap_or(0);
            }
        }
        code.extend(block);
    }
    code.push(instruction(MOVE_IMMEDIATE, RESULT, 0, 0));
    code.push(instruction(EXIT, 0, 0, 0));
    code
}

/// The part of `union bpf_attr` that BPF_PROG_LOAD reads.
#[repr(C)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
}

/// The part of `union bpf_attr` that BPF_PROG_ATTACH reads.
#[repr(C)]
struct AttachAttributes {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
/// Groups below may have programs of their own, which can only restrict further.
const BPF_F_ALLOW_MULTI: u32 = 2;

/// Allows the processes of `group` the devices of `rules` and no others. The program lives as long as the group.
pub fn attach(group: &Path, rules: &[Rule]) -> Result<()> {
    let folder = crate::file::open_folder(group)?;
    let code = program(rules);
    let load = LoadAttributes {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(code.len()).unwrap_or(u32::MAX),
        instructions: address(code.as_ptr()),
        license: address(c"Apache-2.0".as_ptr()),
    };
    let size = size_of::<LoadAttributes>();
    // SAFETY: `load` and what it points at live through the call; the kernel reads no more than the size and count.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size) };
    let fd = i32::try_from(check(fd).context("load", "device filter")?).unwrap_or(-1);
    // SAFETY: the kernel has just returned this descriptor and nobody else owns it.
    let filter = unsafe { OwnedFd::from_raw_fd(fd) };
    let attach = AttachAttributes {
        target: folder.as_raw_fd().cast_unsigned(),
        program: filter.as_raw_fd().cast_unsigned(),
        attach_type: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    let size = size_of::<AttachAttributes>();
    // SAFETY: `attach` lives through the call, and both descriptors in it are open.
    let done = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attach, size) };
    check(done).on("attach device filter to", group).map(|_| ())
}

/// A pointer as the kernel's 64-bit field.
fn address<T>(pointer: *const T) -> u64 {
    u64::try_from(pointer.addr()).unwrap_or(0)
}

fn check(result: libc::c_long) -> std::result::Result<libc::c_long, Errno> {
    if result >= 0 {
        return Ok(result);
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would: (type, access, major, minor) in, allowed or not out.
    fn evaluate(code: &[Instruction], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0u64; 11];
        let mut next = 0;
        loop {
            let step = code[next];
            let (target, source) = (usize::from(step.registers & 15), usize::from(step.registers >> 4));
            let immediate = i64::from(step.immediate).cast_unsigned();
            next += 1;
            match step.code {
                LOAD_WORD => registers[target] = context[usize::try_from(step.offset).unwrap() / 4].into(),
                MOVE_IMMEDIATE => registers[target] = immediate,
                MOVE_REGISTER => registers[target] = registers[source],
                AND_IMMEDIATE => registers[target] &= immediate,
                SHIFT_RIGHT => registers[target] >>= immediate,
                JUMP_IF_NOT_EQUAL if registers[target] != immediate => {
                    next += usize::try_from(step.offset).unwrap();
                }
                JUMP_IF_NOT_EQUAL => {}
                EXIT => return registers[0] == 1,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn rules_allow_what_they_say_and_nothing_else() {
        let rules = [
            Rule { block: false, major: None, minor: None, access: MKNOD },
            Rule { block: false, major: Some(1), minor: Some(3), access: MKNOD | READ | WRITE },
            Rule { block: false, major: Some(136), minor: None, access: READ | WRITE },
            Rule { block: true, major: Some(8), minor: Some(1), access: READ },
        ];
        let code = program(&rules);
        let (block, character) = (1, 2);
        assert!(evaluate(&code, character, READ | WRITE, 1, 3));
        assert!(evaluate(&code, character, MKNOD, 99, 99));
        assert!(evaluate(&code, character, WRITE, 136, 7));
        assert!(evaluate(&code, block, READ, 8, 1));
        assert!(!evaluate(&code, block, READ | WRITE, 8, 1));
        assert!(!evaluate(&code, block, READ, 8, 2));
        assert!(!evaluate(&code, character, READ, 1, 1));
        assert!(!evaluate(&code, block, MKNOD, 8, 0));
        assert!(!evaluate(&program(&[]), character, READ, 1, 3));
    }
}
