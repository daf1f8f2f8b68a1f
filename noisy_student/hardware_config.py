"""The hardware that a command runs on."""

import dataclasses
from typing import Optional

from noisy_student.data_config import require


@dataclasses.dataclass(frozen=True)
class HardwareConfig:
    """How to find the devices.

    Attributes:
        use_tpu: True, False, or None to use a TPU where one is named or found.
        tpu: A TPU's name or address; `'local'` on a TPU VM. None takes that of
            the environment variable TPU_NAME, or this machine's.
        tpu_zone: Zone of a named TPU.
        gcp_project: Project of a named TPU.
        num_virtual_devices: Splits the CPU into that many replicas, to try
            distributed training without accelerators; 1 does not.
        deterministic: Whether equal seeds must give bit-equal weights.
        use_bfloat16: Whether networks compute in bfloat16, with float32
            weights and logits; None does on a TPU.
    """

    use_tpu: Optional[bool] = None
    tpu: Optional[str] = None
    tpu_zone: Optional[str] = None
    gcp_project: Optional[str] = None
    num_virtual_devices: int = 1
    deterministic: bool = False
    use_bfloat16: Optional[bool] = None

    def __post_init__(self):
        require(
            self.num_virtual_devices >= 1,
            "num_virtual_devices",
            ">= 1",
            self.num_virtual_devices,
        )
