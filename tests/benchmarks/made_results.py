"""Results as a run would write them, with figures of choice."""

from typing import Any

from benchmarks.runs import Result, hash_of


def made_result(method: str, value: float, seed: int = 0, protocol: str = "full", **changes: Any) -> Result:  # noqa: ANN401
    fields = {"fingerprint": "f", "split": "leave_one_out", "cases": 200} | changes.pop("fields", {})
    key = f"test/{protocol}"
    values: dict[str, Any] = {
        "run_id": hash_of(method, value, seed),
        "config_id": hash_of(method),
        "method": method,
        "dataset": "toy",
        "seed": seed,
        "protocols": {protocol: {"id": hash_of(fields), "fields": fields}},
        "information_set": ["order"],
        "metrics": {f"{key}/overall/ndcg@10": value, f"{key}/overall/hr@10": value, f"{key}/cold_items/hr@10": 0.5},
        "cases": {f"{key}/overall": 200, f"{key}/cold_items": 12},
    }
    return Result(**values | changes)
