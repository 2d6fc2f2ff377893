//! The stages of image-write alone, for `bench-actions`: prints the seconds that one took.
//! `stages fetch URL`, `stages unpack FILE`, `stages write FILE DISK`. Whatever was on the disk is gone.

use std::fs::{self, File};
use std::io::{self, BufReader, Cursor, Read};
use std::time::Instant;

use actions::disk::sink::Disk;
use actions::disk::stream::{Bytes, Depth, Geometry, pump};
use actions::image::decode::decoder;
use actions::image::format::{LOOK, Unpack, packing};
use sys::block::Device;

type Done = Result<(), Box<dyn std::error::Error>>;

/// The whole content, from memory.
struct Content(Cursor<Vec<u8>>);

impl Read for Content {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Bytes for Content {}

fn main() -> Done {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let seconds = match args.as_slice() {
        ["fetch", url] => fetch(url)?,
        ["unpack", file] => unpack(file)?,
        ["write", file, disk] => write(file, disk)?,
        _ => return Err("usage: stages fetch URL | unpack FILE | write FILE DISK".into()),
    };
    println!("{seconds:.4}");
    Ok(())
}

fn fetch(url: &str) -> Result<f64, Box<dyn std::error::Error>> {
    let start = Instant::now();
    let mut body = fetch::open(url, &fetch::Options::default())?.reader;
    drain(&mut body)?;
    Ok(start.elapsed().as_secs_f64())
}

fn unpack(path: &str) -> Result<f64, Box<dyn std::error::Error>> {
    let bytes = fs::read(path)?;
    let start = Instant::now();
    let kind = packing(&bytes[..LOOK], path, Unpack::Auto)?;
    drain(&mut decoder(kind, Box::new(BufReader::with_capacity(512 << 10, Cursor::new(bytes))))?)?;
    Ok(start.elapsed().as_secs_f64())
}

fn write(path: &str, disk: &str) -> Result<f64, Box<dyn std::error::Error>> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    let mut content = Content(Cursor::new(bytes));
    let start = Instant::now();
    let device = Device::claim(disk.as_ref())?;
    let direct = device.direct()?;
    let geometry = Geometry { size: device.size()?, sector: device.logical_sector()? };
    pump(&mut content, &Disk::new(&direct, true), geometry, Depth::None, &mut |_| ())?;
    device.sync()?;
    Ok(start.elapsed().as_secs_f64())
}

fn drain(from: &mut impl Read) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    while from.read(&mut buffer)? > 0 {}
    Ok(())
}
