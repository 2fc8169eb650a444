//! Images that mke2fs and debugfs made are read as they were made (T2).

mod common;

use common::*;
use std::os::unix::fs::{PermissionsExt, symlink};

/// Feature sets of e2fsprogs 1.47 and of older ones, and block and inode sizes.
pub const FEATURES: [(&str, &[&str]); 8] = [
    ("4 KiB", &["-b", "4096", "-J", "size=4"]),
    ("1 KiB", &["-b", "1024"]),
    ("2 KiB", &["-b", "2048"]),
    ("1.47.2", &["-b", "4096", "-J", "size=4", "-O", "metadata_csum_seed,orphan_file"]),
    ("no checksums", &["-b", "1024", "-O", "^metadata_csum,uninit_bg"]),
    ("no checksums at all", &["-b", "1024", "-O", "^metadata_csum,^uninit_bg,^64bit,^flex_bg"]),
    ("128-byte inodes", &["-b", "1024", "-I", "128"]),
    ("small groups", &["-b", "1024", "-g", "1024", "-O", "^resize_inode"]),
];

fn source() -> TempFile {
    let dir = TempFile(scratch("source"));
    let at = |name: &str| dir.0.join(name);
    std::fs::create_dir_all(at("sub/deeper")).unwrap();
    std::fs::create_dir(at("many")).unwrap();
    for i in 0..700 {
        std::fs::write(at(&format!("many/a-rather-long-name-for-a-file-{i:05}")), format!("{i}")).unwrap();
    }
    let big: Vec<u8> = (0..300_000u32).flat_map(|i| i.to_le_bytes()).collect();
    std::fs::write(at("big"), &big).unwrap();
    std::fs::write(at("empty"), b"").unwrap();
    std::fs::write(at("sub/small"), b"small").unwrap();
    std::fs::set_permissions(at("sub/small"), std::fs::Permissions::from_mode(0o4751)).unwrap();
    symlink("sub/small", at("fast")).unwrap();
    symlink("x/".repeat(100), at("slow")).unwrap();
    std::fs::hard_link(at("big"), at("sub/deeper/linked")).unwrap();
    let sparse = std::fs::File::create(at("sparse")).unwrap();
    use std::os::unix::fs::FileExt;
    for i in 0..40u64 {
        sparse.write_all_at(&[i as u8 + 1; 3000], i * 65536 + 100).unwrap();
    }
    dir
}

#[test]
fn trees_made_by_mke2fs_are_read() {
    let source = source();
    for (what, options) in FEATURES {
        let mut options = options.to_vec();
        options.extend(["-d", source.0.to_str().unwrap()]);
        let disk = MemDisk::new(mke2fs(48, &options));
        let fs = mount_ro(&disk);
        let tree = tree(&fs).unwrap_or_else(|error| panic!("{what}: {} {:?}", error.name(), disk.lines));
        let mut count = 0;
        let mut todo = vec![source.0.clone()];
        while let Some(dir) = todo.pop() {
            for entry in std::fs::read_dir(&dir).unwrap() {
                let path = entry.unwrap().path();
                let name = format!("/{}", path.strip_prefix(&source.0).unwrap().display());
                let node = tree.get(name.as_bytes()).unwrap_or_else(|| panic!("{what}: {name} is missing"));
                let meta = std::fs::symlink_metadata(&path).unwrap();
                assert_eq!(u32::from(node.mode), meta.permissions().mode(), "{what}: {name}");
                if meta.is_file() {
                    assert!(node.content == std::fs::read(&path).unwrap(), "{what}: content of {name}");
                } else if meta.is_symlink() {
                    let target = std::fs::read_link(&path).unwrap();
                    assert_eq!(node.content, target.as_os_str().as_encoded_bytes(), "{what}: {name}");
                } else {
                    todo.push(path);
                }
                count += 1;
            }
        }
        assert_eq!(tree.len(), count, "{what}");
        drop(fs);
        // Mounted and unmounted for writing: as clean as before.
        let fs = mount(&disk);
        fs.unmount().unwrap();
        assert_clean(&disk.image(), what);
    }
}

#[test]
fn what_cannot_be_mounted_is_refused_by_name() {
    let image = mke2fs(16, &["-b", "1024"]);
    let mount_error = |image: Vec<u8>| {
        let disk = MemDisk::new(image);
        let result = ext4::Ext4::<_, Lock>::mount(&disk, &ext4::MountOptions::default()).map(|_| ());
        let lines = disk.lines.lock().unwrap().join("\n");
        (result.err().map(|error| error.name()), lines)
    };
    let inline = mke2fs(16, &["-b", "1024", "-O", "inline_data"]);
    assert_eq!(
        mount_error(inline),
        (Some("EINVAL"), "ext4: cannot mount: feature inline_data (0x8000) is not supported".into())
    );
    assert_eq!(mount_error(vec![0; 1 << 20]).0, Some("EINVAL"));
    let mut torn = image.clone();
    torn[1024 + 0x20] ^= 1;
    assert_eq!(mount_error(torn).0, Some("EBADMSG"));
    assert_eq!(mount_error(image[..8 << 20].to_vec()).0, Some("EINVAL"));
    let quota = MemDisk::new(mke2fs(16, &["-b", "1024", "-O", "quota"]));
    let fs = mount(&quota);
    assert!(fs.is_read_only());
    assert!(quota.said("feature quota"));
}
