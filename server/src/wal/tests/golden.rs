//! The bytes on disk never change without a new format number.

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn records(sector: &[u8]) -> &[u8] {
    let length = u32::from_le_bytes(sector[16..20].try_into().unwrap()) as usize;
    &sector[24..24 + length]
}

#[test]
fn the_bytes_of_a_log() {
    let disk = MemoryDisk::default();
    let wal = create(&disk, 4);
    append(&wal, [entry(1, 0, b"hello")]);
    drop(wal);
    let files = disk.files();
    let segment = &files["0000000000000001.wal"];
    let header = &segment[..512];
    let first = &segment[4096..4096 + 512];
    let blank = &segment[8192..8192 + 512];
    assert_eq!(hex(&header[..16]), "6fdfef76010000000000000000000000");
    assert_eq!(
        hex(records(header)),
        "434f4f524457414c02000000c100000000000000a100000000000000010000000000000004000000\
         000000000000000000"
    );
    assert_eq!(
        hex(&first[..24]),
        "cb24a71301000000000000000100000023000000a7895114"
    );
    assert_eq!(
        hex(records(first)),
        "01010000000000000007000000000000000000000000000000010500000068656c6c6f"
    );
    assert_eq!(hex(&blank[..16]), "8f1f64c1000000000000000000000000");
    assert_eq!(crc32fast::hash(segment), 0xd649c7f5);
    assert_eq!(
        hex(&files["identity"]),
        "434f4f524457484f02000000c100000000000000a100000000000000110000000000000005000000\
         746f6b656e00000000b7095329"
    );
}
