//! What boot loaders, kernels and modules leave for us: environments, device trees, kernel images, superblocks of hash trees,
//! lists of modules.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    use minke_wire::{arm64_image, autofs, bootenv, fdt, kmod, verity};
    for format in [bootenv::Format::Text, bootenv::Format::Block] {
        let _ = bootenv::get(format, bytes, "resin_root_part");
        let set = bootenv::set(format, bytes, &[("resin_root_part", "3"), ("bootcount", "0")]);
        assert_eq!(bootenv::get(format, &set, "resin_root_part"), Some("3"));
        assert_eq!(bootenv::get(format, &set, "bootcount"), Some("0"));
        assert!(set.len() >= bytes.len());
    }
    if let Some(tree) = fdt::set_chosen(bytes, &[("bootargs", b"root=x\0".to_vec())]) {
        assert_eq!(fdt::chosen(&tree, "bootargs"), Some(&b"root=x\0"[..]));
    }
    let _ = fdt::chosen(bytes, "linux,initrd-start");
    let _ = verity::Superblock::parse(bytes).map(|found| found.table("a", "b", "c", "d"));
    let _ = autofs::request(bytes);
    let image = arm64_image::Image::parse(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(image) = arm64_image::Image::parse(&[bytes, &[0; 64]].concat()).or(image) {
        let _ = arm64_image::place(text, image, 1 << 20);
    }
    let (head, rest) = text.split_once('\n').unwrap_or((text, ""));
    let _ = (kmod::dependencies(rest, head), kmod::soft_dependencies(rest, head), kmod::resolve_alias(rest, head));
    // As hostile as a pattern is, it costs no more than a short time.
    let _ = kmod::matches(head.as_bytes(), rest.as_bytes());
});
