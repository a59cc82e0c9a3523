//! What a built program is made of: whether it needs anything of the device, and which crates its
//! bytes come from.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use object::elf::{
    DT_NEEDED, FileHeader32, FileHeader64, PT_DYNAMIC, PT_INTERP, PT_LOAD, SHN_UNDEF,
};
use object::read::elf::{ElfFile32, ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSymbol, SymbolKind};

/// Refuses a program that needs an interpreter or a library.
///
/// # Errors
/// What it needs, or that it is no ELF file.
pub fn check_static(bytes: &[u8]) -> Result<()> {
    match object::FileKind::parse(bytes)? {
        object::FileKind::Elf32 => {
            let file = ElfFile32::<Endianness>::parse(bytes)?;
            needs_nothing(file.elf_header(), file.endian(), bytes)
        }
        object::FileKind::Elf64 => {
            let file = ElfFile64::<Endianness>::parse(bytes)?;
            needs_nothing(file.elf_header(), file.endian(), bytes)
        }
        kind => bail!("not an ELF program but {kind:?}"),
    }
}

fn needs_nothing<H: FileHeader>(header: &H, endian: H::Endian, bytes: &[u8]) -> Result<()> {
    use object::read::elf::Dyn;
    for segment in header.program_headers(endian, bytes)? {
        if segment.p_type(endian) == PT_INTERP {
            bail!("it is not static: it asks for an interpreter");
        }
        if segment.p_type(endian) != PT_DYNAMIC {
            continue;
        }
        let entries = segment.dynamic(endian, bytes)?.unwrap_or_default();
        if entries.iter().any(|entry| entry.tag(endian) == DT_NEEDED) {
            bail!("it is not static: it asks for a library");
        }
    }
    Ok(())
}

/// Bytes of code and data by the crate they come from; what has no symbol is not counted.
///
/// # Errors
/// If the file cannot be read, or was stripped.
pub fn by_crate(bytes: &[u8]) -> Result<BTreeMap<String, u64>> {
    let file = object::File::parse(bytes)?;
    let mut crates = BTreeMap::new();
    for symbol in file.symbols() {
        if symbol.size() == 0 || !matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Data) {
            continue;
        }
        let name = origin(symbol.name().context("a symbol's name")?);
        *crates.entry(name).or_default() += symbol.size();
    }
    if crates.is_empty() {
        bail!("it has no symbols");
    }
    Ok(crates)
}

/// The crate a symbol belongs to; C code is told by its prefix.
fn origin(symbol: &str) -> String {
    if symbol.starts_with("ring_core_") {
        return "ring".into();
    }
    let Ok(name) = rustc_demangle::try_demangle(symbol) else {
        return "C".into();
    };
    let name = name.to_string();
    // `<&mut foo::Bar as baz::Qux>::f` is code of foo, or of whoever implements Qux for it.
    let mut rest = name.as_str();
    loop {
        let trimmed = rest.trim_start_matches(['<', '&', '*', '(', '[', ' ']);
        let trimmed = ["mut ", "const ", "dyn ", "for"]
            .iter()
            .fold(trimmed, |text, word| {
                text.strip_prefix(word).unwrap_or(text)
            });
        if trimmed == rest {
            break;
        }
        rest = trimmed;
    }
    let end = rest
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(rest.len());
    match rest.get(..end) {
        Some(word) if rest[end..].starts_with("::") || rest[end..].starts_with('[') => word.into(),
        // A primitive type: `<u8 as core::fmt::Display>::fmt`.
        _ => "core".into(),
    }
}

/// The program without what is not loaded: symbols, debugging tables and the list of sections, as
/// OpenWrt's `sstrip` leaves it.
///
/// # Errors
/// If it is no ELF program.
pub fn strip(bytes: &[u8]) -> Result<Vec<u8>> {
    match object::FileKind::parse(bytes)? {
        object::FileKind::Elf32 => {
            let header = FileHeader32::<Endianness>::parse(bytes)?;
            let (endian, mut stripped) = (header.endian()?, loaded(header, bytes)?);
            let header = header_of::<FileHeader32<Endianness>>(&mut stripped)?;
            header.e_shoff = object::U32::new(endian, 0);
            header.e_shnum = object::U16::new(endian, 0);
            header.e_shstrndx = object::U16::new(endian, SHN_UNDEF);
            Ok(stripped)
        }
        object::FileKind::Elf64 => {
            let header = FileHeader64::<Endianness>::parse(bytes)?;
            let (endian, mut stripped) = (header.endian()?, loaded(header, bytes)?);
            let header = header_of::<FileHeader64<Endianness>>(&mut stripped)?;
            header.e_shoff = object::U64::new(endian, 0);
            header.e_shnum = object::U16::new(endian, 0);
            header.e_shstrndx = object::U16::new(endian, SHN_UNDEF);
            Ok(stripped)
        }
        kind => bail!("not an ELF program but {kind:?}"),
    }
}

/// The file up to the end of what is loaded. Segments that lie behind, which describe the file and
/// not the program (RISC-V's attributes), become unused entries: their type, the first word, is 0.
fn loaded<H: FileHeader>(header: &H, bytes: &[u8]) -> Result<Vec<u8>> {
    let endian = header.endian()?;
    let segments = header.program_headers(endian, bytes)?;
    let end = |segment: &H::ProgramHeader| {
        let (offset, size) = segment.file_range(endian);
        offset.saturating_add(size)
    };
    let loads = |segment: &&H::ProgramHeader| segment.p_type(endian) == PT_LOAD;
    let last = segments.iter().filter(loads).map(end).max();
    let last = last.context("it loads nothing")?;
    let mut kept = bytes
        .get(..usize::try_from(last)?)
        .context("it is truncated")?
        .to_vec();
    let table = usize::try_from(header.e_phoff(endian).into())?;
    for (number, segment) in segments.iter().enumerate() {
        if end(segment) > last {
            let at = table + number * usize::from(header.e_phentsize(endian));
            let kind = kept
                .get_mut(at..at + 4)
                .context("its segments are not loaded")?;
            kind.fill(0);
        }
    }
    Ok(kept)
}

fn header_of<H: object::Pod>(bytes: &mut [u8]) -> Result<&mut H> {
    match object::pod::from_bytes_mut(bytes) {
        Ok((header, _)) => Ok(header),
        Err(()) => bail!("it is truncated"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Vec<u8> {
        std::fs::read("/proc/self/exe").expect("this program")
    }

    #[test]
    fn a_program_with_libraries_is_not_static() {
        let error = check_static(&own()).expect_err("this test uses the C library");
        assert!(error.to_string().contains("not static"), "{error}");
        assert!(check_static(b"#!/bin/sh\n").is_err());
    }

    #[test]
    fn crates_are_told_by_their_symbols() {
        assert_eq!(origin("_RNvCs1234_7mycrate3foo"), "mycrate");
        assert_eq!(
            origin("_ZN4core3fmt9Formatter3pad17h0123456789abcdefE"),
            "core"
        );
        assert_eq!(
            origin("_ZN47_$LT$russh..Key$u20$as$u20$core..fmt..Debug$GT$3fmt17h0123456789abcdefE"),
            "russh"
        );
        assert_eq!(origin("ring_core_0_17_14__aes_nohw_encrypt"), "ring");
        assert_eq!(origin("memcpy"), "C");
        let crates = by_crate(&own()).expect("a test has symbols");
        assert!(crates.contains_key("std"), "{crates:?}");
        assert!(crates.contains_key("cross"), "{crates:?}");
    }

    #[test]
    fn a_stripped_program_is_smaller_and_still_runs() {
        use std::os::unix::fs::PermissionsExt;
        let stripped = strip(&own()).expect("this program");
        assert!(stripped.len() < own().len());
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("stripped");
        std::fs::write(&path, stripped).expect("written");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("executable");
        let listed = std::process::Command::new(path).arg("--list").output();
        let listed = String::from_utf8(listed.expect("it starts").stdout).expect("text");
        assert!(listed.contains("a_stripped_program_is_smaller"), "{listed}");
    }
}
