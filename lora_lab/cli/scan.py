"""``lora-lab scan DIR``"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lora_lab.cli.output import Output

EXAMPLE = "lora-lab scan pictures --resolution 512 --batch 2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder, and what buckets and steps depend on."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="holds <repeats>_<name> folders, or pictures")
    parser.add_argument("--reg", type=Path, metavar="DIR", help="regularisation pictures, in the same form")
    parser.add_argument("--resolution", type=int, default=512, help="pixels (default 512)")
    parser.add_argument("--min-bucket", type=int, default=256, help="shortest bucket side (default 256)")
    parser.add_argument("--max-bucket", type=int, default=1024, help="longest bucket side (default 1024)")
    parser.add_argument("--bucket-steps", type=int, default=64, help="bucket sides are multiples of it (default 64)")
    parser.add_argument("--batch", type=int, default=1, help="train_batch_size (default 1)")
    parser.add_argument("--quick", action="store_true", help="names and headers only: no look at the pixels")
    parser.add_argument("--caption-extension", default=".txt", help="ending of the caption files (default .txt)")


def run(args: argparse.Namespace, output: Output) -> dict[str, Any]:
    """Check and tell."""
    from lora_lab.dataset.checks.closer import look_closer
    from lora_lab.dataset.options import DatasetOptions
    from lora_lab.dataset.scan import scan
    from lora_lab.host.choose import default_data_dir
    from lora_lab.workflow.project_folder import project_folder

    options = DatasetOptions(
        resolution=(args.resolution, args.resolution), min_bucket_reso=args.min_bucket, max_bucket_reso=args.max_bucket,
        bucket_reso_steps=args.bucket_steps, train_batch_size=args.batch, caption_extension=args.caption_extension,
    )  # fmt: skip
    report = scan(args.folder, options, args.reg)
    problems = list(report.problems)
    if not args.quick:
        kept = project_folder(args.folder, default_data_dir())
        problems += look_closer(report, kept, output.progress)
    for subset in report.subsets:
        kind = " (regularisation)" if subset.regularisation else ""
        captions = sum(p.has_caption for p in subset.pictures)
        output.line(f"{len(subset.pictures):5} pictures x {subset.repeats}, {captions} captions  {subset.name}{kind}")
    counts = report.bucket_counts
    most = max(counts.values(), default=1)
    for (width, height), count in counts.items():
        output.line(f"{width:5} x {height:<5} {'█' * max(1, round(30 * count / most))} {count}")
    output.line(f"{report.images} pictures, {report.steps_per_epoch()} steps per epoch")
    for problem in problems:
        output.line(f"{problem.severity}: {problem.file}: {problem.why}; {problem.remedy}")
    return {**report.to_json(), "problems": [problem.to_json() for problem in problems]}
