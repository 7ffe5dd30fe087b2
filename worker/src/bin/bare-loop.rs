//! `bare-loop`: measures inference without a service. It runs the model, the decoder and the pipeline code of the worker in
//! one process, without HTTP, S3 and Postgres. The benches compare Darkroom with it.

use std::{
    io::Cursor,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use decode::{Color, Format, Header, Request, decode};
use fast_image_resize::Resizer;
use jobs::{manifest::is_package, models::ModelFolder};
use serde_json::json;
use worker::{
    pipeline::{
        Placement,
        postprocess::predict,
        preprocess::{preprocess, shrink},
    },
    torch::{
        Device, DeviceChoice, Output, PrecisionChoice, Program, load_package, load_program,
        prepare_thread,
    },
};

/// Decodes photos and runs the model on them in a loop; prints one JSON line.
#[derive(Debug, Parser)]
struct Args {
    /// Folder of the model. Its `artifact` is loaded, TorchScript or a package, and none of its `artifacts`
    #[arg(long, default_value = "models/efficientnet-lite0")]
    model: PathBuf,
    /// Folder of JPEGs
    #[arg(long)]
    photos: PathBuf,
    /// Duration of the measurement, in seconds
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Images in a forward batch
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Part of the loop to run
    #[arg(long, value_enum, default_value_t = Part::Whole)]
    part: Part,
    /// As the worker's `--device`
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// As the worker's `--precision`
    #[arg(long, value_enum, default_value_t = PrecisionChoice::Default)]
    precision: PrecisionChoice,
    /// Number of threads; each decodes and infers, with one libtorch thread
    #[arg(long)]
    threads: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Decode, preprocess, infer, postprocess
    Whole,
    /// Decode and preprocess
    Develop,
    /// Forward passes over a gray batch
    Infer,
}

struct Loop<'a> {
    part: Part,
    program: &'a Program,
    folder: &'a ModelFolder,
    labels: &'a [String],
    photos: &'a [Vec<u8>],
    next: &'a AtomicUsize,
}

impl Loop<'_> {
    /// Runs forward batches for `seconds` and returns the milliseconds of each.
    fn run(&self, thread: usize, batch: usize, seconds: f64) -> anyhow::Result<Vec<f64>> {
        prepare_thread(thread);
        let (mut tools, mut took, began) = (Default::default(), Vec::new(), Instant::now());
        let gray = vec![vec![128; self.program.image_bytes()]; batch];
        while began.elapsed() < Duration::from_secs_f64(seconds) {
            let started = Instant::now();
            match self.part {
                Part::Whole => {
                    let inputs = self.develop(&mut tools, batch)?;
                    self.predict(inputs)?;
                }
                Part::Develop => drop(self.develop(&mut tools, batch)?),
                Part::Infer => drop(self.forward(&gray)?),
            }
            took.push(started.elapsed().as_secs_f64() * 1e3);
        }
        Ok(took)
    }

    /// Decodes and preprocesses the next `batch` photos.
    fn develop(
        &self,
        (resizer, memory): &mut (Resizer, Vec<u8>),
        batch: usize,
    ) -> anyhow::Result<Vec<(Vec<u8>, Placement)>> {
        let limits = decode::Limits {
            pixels_max: 40_000_000,
            side_px_max: 12_000,
            bytes_max: 256 << 20,
            formats: vec![Format::Jpeg],
        };
        let input = &self.folder.manifest.input;
        let inputs = (0..batch).map(|_| {
            let turn = self.next.fetch_add(1, Ordering::Relaxed);
            let photo = &self.photos[turn % self.photos.len()];
            let header = Header::read(Cursor::new(photo), &limits)?;
            let (width, height) = header.upright_size();
            let request = Request {
                scale_min: shrink(input, width, height),
                color: Color::Srgb,
            };
            let memory_of_last = std::mem::take(memory);
            let image = decode(photo, &header, request, &limits, memory_of_last)?.pixels;
            let placement = Placement::of(input, width, height);
            let input = preprocess(resizer, &image, input, &placement)?;
            *memory = image.into_raw();
            Ok((input, placement))
        });
        inputs.collect()
    }

    fn forward(&self, inputs: &[Vec<u8>]) -> anyhow::Result<Vec<Output>> {
        let slices: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        let outputs = self.program.forward(&slices);
        outputs.map_err(|error| anyhow::anyhow!("{error:?}"))
    }

    fn predict(&self, inputs: Vec<(Vec<u8>, Placement)>) -> anyhow::Result<()> {
        let params = json!({"top_k": 5});
        let (pixels, placements): (Vec<_>, Vec<_>) = inputs.into_iter().unzip();
        for (output, placement) in self.forward(&pixels)?.iter().zip(&placements) {
            predict(
                &self.folder.manifest,
                self.labels,
                output,
                placement,
                &params,
            )?;
        }
        Ok(())
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let folder = ModelFolder::read(&args.model)?;
    let device = Device::open(args.device)?;
    let precision = device.precision(args.precision, &folder.manifest.precision);
    prepare_thread(0);
    let (manifest, artifact) = (&folder.manifest, args.model.join(&folder.manifest.artifact));
    let program = if is_package(&manifest.artifact) {
        load_package(&artifact, manifest, device, args.batch, args.threads)
    } else {
        load_program(&artifact, manifest, device, precision, args.batch)
    };
    let program = program.map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let labels = std::fs::read(args.model.join("labels.txt")).unwrap_or_default();
    let labels = jobs::manifest::read_labels(&labels).unwrap_or_default();
    let photos = read_photos(&args.photos)?;
    let next = AtomicUsize::new(0);
    let bare = Loop {
        part: args.part,
        program: &program,
        folder: &folder,
        labels: &labels,
        photos: &photos,
        next: &next,
    };

    bare.run(0, args.batch, 0.5)?; // warm-up
    let (cpu_before, began) = (cpu_seconds()?, Instant::now());
    let took = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..args.threads)
            .map(|thread| {
                let (bare, args) = (&bare, &args);
                scope.spawn(move || bare.run(thread, args.batch, args.seconds))
            })
            .collect();
        let mut took = Vec::new();
        for thread in threads {
            took.extend(thread.join().expect("the loop does not panic")?);
        }
        anyhow::Ok(took)
    })?;
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds()? - cpu_before);
    report(took, args.batch, seconds, cpu);
    Ok(())
}

#[allow(clippy::print_stdout)] // benches read this line
fn report(mut took: Vec<f64>, batch: usize, seconds: f64, cpu: f64) {
    let images = (took.len() * batch) as f64;
    took.sort_by(f64::total_cmp);
    let percentile = |part: f64| took[((took.len() - 1) as f64 * part) as usize];
    println!(
        "{}",
        json!({"images_per_s": images / seconds, "p50_ms": percentile(0.5), "p99_ms": percentile(0.99),
               "cpu_ms_per_image": cpu * 1e3 / images, "batch": batch})
    );
}

fn read_photos(folder: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|kind| kind == "jpg" || kind == "jpeg")
        })
        .collect();
    paths.sort();
    ensure!(!paths.is_empty(), "no JPEGs in {}", folder.display());
    paths.iter().map(|path| Ok(std::fs::read(path)?)).collect()
}

/// CPU time that this process has used, in seconds.
fn cpu_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit_once(") ").context("/proc/self/stat")?.1;
    let ticks = |field: usize| {
        after_name
            .split(' ')
            .nth(field)
            .and_then(|ticks| ticks.parse::<f64>().ok())
    };
    // Fields 14 and 15 of the line, in ticks of 10 ms.
    Ok((ticks(11).context("utime")? + ticks(12).context("stime")?) / 100.0)
}
