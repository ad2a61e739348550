//! A FAT file system as others and cuts of the power leave it: what is checked once and repaired needs no second repair.
//! Seeds: small file systems of mkfs.fat (see `run`).

#![no_main]

use minke_wire::fat::{self, Medium, Refused};

struct Image(Vec<u8>);

impl Image {
    fn at(&mut self, offset: u64, length: usize) -> Result<&mut [u8], Refused> {
        let start = usize::try_from(offset).map_err(|_| Refused)?;
        self.0.get_mut(start..start.checked_add(length).ok_or(Refused)?).ok_or(Refused)
    }
}

impl Medium for Image {
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), Refused> {
        buffer.copy_from_slice(self.at(offset, buffer.len())?);
        Ok(())
    }

    fn write(&mut self, offset: u64, content: &[u8]) -> Result<(), Refused> {
        self.at(offset, content.len())?.copy_from_slice(content);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Refused> {
        Ok(())
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut image = Image(bytes.to_vec());
    let length = bytes.len() as u64;
    match fat::check(&mut image, length) {
        Ok(_) => {
            let once = image.0.clone();
            let again = fat::check(&mut image, length).expect("what was checked can be checked");
            assert!(image.0 == once, "a second check changes something: {again:?}");
        }
        Err(fat::Failure::LeftAlone(_)) => assert!(image.0 == bytes, "left alone, and yet changed"),
        Err(fat::Failure::Medium) => {}
    }
});
