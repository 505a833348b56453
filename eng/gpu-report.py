#!/usr/bin/env python3
"""Checks and times a published `octet` on a GPU and writes the report, beside PyTorch's FP8 GEMM where torch is installed.

    dotnet publish src/Octet.Cli -c Release -r linux-x64 -p:PublishAot=true -o build/octet
    # copy build/octet and this file to the machine with the GPU: it needs neither the SDK nor a compiler
    python3 eng/gpu-report.py --octet build/octet/Octet.Cli --device cuda:0 --output docs/h200-report.md

Exit code: 0 written and every case passed, 1 written and a case failed, 2 octet could not run.
"""
import argparse
import json
import re
import subprocess
import sys

GEMM = re.compile(r"m(\d+) n(\d+) k(\d+)$")


def run(octet, *arguments):
    """The JSON object of an octet command; check's exit code 1 is a result, not an error."""
    done = subprocess.run([octet, *arguments, "--json"], stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1) or not done.stdout:
        sys.exit(2)
    return json.loads(done.stdout)


class Torch:
    """PyTorch's FP8 GEMM with one scale a tensor: less work than 128-wide blocks, so a bound from below for its time."""

    def __init__(self):
        try:
            import torch
        except ImportError:
            torch = None
        self.torch = torch if torch is not None and torch.cuda.is_available() else None

    def title(self):
        return f"PyTorch {self.torch.__version__}, {self.torch.cuda.get_device_name()}" if self.torch else "PyTorch: not there"

    def microseconds(self, m, n, k):
        """Median of 50 runs over weights that take turns, so that none stays in the L2; None without torch."""
        if self.torch is None:
            return None
        torch, fp8 = self.torch, self.torch.float8_e4m3fn
        rows = max(m, 16)  # its kernel takes no fewer
        a = torch.randn(rows, k, device="cuda").to(fp8)
        copies = max(1, min(16, (256 << 20) // (n * k)))
        weights = [torch.randn(n, k, device="cuda").to(fp8).t() for _ in range(copies)]
        one = torch.ones((), device="cuda")
        times = []
        for i in range(60):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            torch._scaled_mm(a, weights[i % copies], one, one, out_dtype=torch.bfloat16)
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) * 1e3)
        return sorted(times[10:])[25]


def number(value, form="{:.1f}"):
    return "-" if value is None else form.format(value)


def report(check, bench, torch):
    """The lines of the report."""
    device, copy = bench["device"], bench["ceilings"]["gbytes_per_second"]
    square = torch.microseconds(8192, 8192, 8192)
    matmul = 2 * 8192**3 / square / 1e6 if square else None
    command = "python3 eng/gpu-report.py " + " ".join(sys.argv[1:])
    yield f"# Octet on {device}, measured"
    yield ""
    yield f"Made by `{command}`. {torch.title()}. Times are device times between events, medians; weights take turns so that none stays in a cache."
    yield ""
    yield f"Parity: {check['passed']} cases passed, {check['failed']} failed, {check['skipped']} skipped."
    for case in check["cases"]:
        if not case["passed"] and not case.get("skipped_reason"):
            yield f"- failed: {case['op']} {case['name']}: error {case['error']}, tolerance {case['tolerance']}"
    yield ""
    yield f"Ceilings measured in the same run: copying {copy:.0f} GB/s; PyTorch's FP8 matmul at 8192 cubed {number(matmul, '{:.0f}')} TFLOP/s."
    yield ""
    yield "| op | shape | us | TFLOP/s | GB/s | of copying | of matmul | PyTorch us | times PyTorch |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|---:|"
    for result in bench["results"]:
        shape = GEMM.search(result["name"]) if result["op"] == "gemm" else None
        theirs = torch.microseconds(*map(int, shape.groups())) if shape else None
        teraflops = result["gflops"] / 1e3
        share = teraflops / matmul if matmul else None
        yield (
            f"| {result['op']} | {result['name']} | {result['microseconds']:.1f} | {teraflops:.1f} | {result['gbytes_per_second']:.0f} "
            f"| {number(result['gbytes_per_second'] / copy if copy else None, '{:.0%}')} | {number(share, '{:.0%}')} | {number(theirs)} "
            f"| {number(theirs / result['microseconds'] if theirs else None, '{:.2f}')} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--octet", required=True, help="the published command")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--output", required=True, help="the Markdown file")
    parser.add_argument("--op", help="one op only")
    options = parser.parse_args()
    op = ["--op", options.op] if options.op else []
    check = run(options.octet, "check", "--device", options.device, *op)
    bench = run(options.octet, "bench", "--device", options.device, *op)
    lines = list(report(check, bench, Torch()))
    with open(options.output, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    return 1 if check["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
