"""PyTorch tensors in and out without a copy: float8, bfloat16, channels last.

python examples/06_torch_tensors.py       needs the extra torch
"""

from __future__ import annotations

import torch

import hfp8sim as hs


def main() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 8, 6, 6).to(memory_format=torch.channels_last).to(torch.float8_e4m3fn)
    weights = torch.randn(4, 8, 3, 3).to(torch.float8_e4m3fn)
    y = hs.conv_fwd(images, weights, "hopper-fp8", layout="NCHW", out_dtype="float32")
    result = torch.from_numpy(y)
    print(tuple(result.shape), result.is_contiguous(memory_format=torch.channels_last))
    operand = hs.Operand.from_array(images)
    print(operand, operand.to_torch().data_ptr() == images.data_ptr())
    codes = hs.get_format("hfp8-143").encode(torch.randn(3).bfloat16())
    print(codes.dtype, hs.get_format(torch.bfloat16).name)


if __name__ == "__main__":
    main()
