"""What is read from files: traces, prices, and what is wrong with them in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.errors import ConfigError
from fleet.model import SMALLEST_PART, GpuNeed, Market, MarketPolicy
from fleet.simulate.catalog import offers_of
from fleet.simulate.trace import Submission, read_trace
from tests.builders import a_queue, a_resource

QUEUES = (a_queue("train"), a_queue("big"))
PRICES = """cloud,instance_type,vcpus,mem_gib,accelerator,count,on_demand_usd_h,spot_usd_h,region
aws,g6.xlarge,4,16,L4,1,0.8,0.4,us-east-1
aws,g6.xlarge,4,16,L4,1,0.9,0.5,us-west-2
aws,g6f.large,2,8,L4-frac,0.125,0.2,,us-east-1
aws,p4d.24xlarge,96,1152,A100,8,32.8,0,us-east-1
gcp,g2-standard-4,4,16,L4,1,0.7,0.3,us-central1
"""


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def refusal(path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_trace(written(path / "trace.csv", text), QUEUES)
    return str(caught.value).removeprefix(f"{path / 'trace.csv'}")


def test_a_trace_is_read_in_the_order_of_submission_and_other_columns_are_ignored(tmp_path: Path) -> None:
    text = "job,submit_s,gpus,duration_s,queue,gpu_type,user\nx,5,8,60,big,A100,eva\ny,0.5,0.25,7.5,,,\n"
    assert read_trace(written(tmp_path / "t.csv", text), QUEUES) == (
        Submission(submit_s=0.5, gpus=0.25, duration_s=7.5, queue="train"),
        Submission(submit_s=5, gpus=8, duration_s=60, queue="big", gpu_type="a100", user="eva"),
    )


def test_a_trace_without_queues_goes_to_the_first_one(tmp_path: Path) -> None:
    (row,) = read_trace(written(tmp_path / "t.csv", "submit_s,gpus,duration_s\n0,1,1\n"), QUEUES)
    assert (row.queue, row.tags) == ("train", ("gpus:1",))


def test_a_fraction_is_rounded_to_what_a_wish_can_say(tmp_path: Path) -> None:
    third, least = read_trace(
        written(tmp_path / "t.csv", "submit_s,gpus,duration_s\n0,0.333333,1\n1,0.002,1\n"), QUEUES
    )
    assert (third.gpus, third.tags) == (0.333, ("gpus:0.333",))
    assert (least.gpus, GpuNeed.read("0.01")) == (SMALLEST_PART, least.need)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("x,1,1", "submit_s is 'x', not a number"),
        ("0,1", "duration_s is '', not a number"),
        ("-1,1,1", "submit_s is -1; expected 0 to 3.1536e+08"),
        ("0,1,nan", "duration_s is nan; expected 0 to 3.1536e+08"),
        ("0,1.5,1", "gpus is 1.5; a part of a GPU is less than 1, more than one are whole"),
        ("0,2000,1", "gpus is 2000; expected 0 to 1024"),
        ("0,1,1,tarin", "no queue is called 'tarin' in the fleet file; did you mean train?"),
        ("0,1,1,prep", "no queue is called 'prep' in the fleet file; there are train, big"),
        ("0,1,1,big,a:b", "gpu_type is 'a:b'; a GPU type is a word of its model, as a100, or several, as a100|h100"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(tmp_path: Path, row: str, why: str) -> None:
    text = f"submit_s,gpus,duration_s,queue,gpu_type\n0,1,1,train,\n{row}\n"
    assert refusal(tmp_path, text) == f", row 3: {why}"


def test_a_trace_without_its_columns_says_which(tmp_path: Path) -> None:
    assert refusal(tmp_path, "submit,gpus\n0,1\n") == (
        ": no column submit_s, duration_s (it has submit, gpus); a trace has submit_s, gpus, duration_s and may have queue, gpu_type, "
        "user, instances, same_zone"
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", ": no column submit_s, gpus, duration_s (it is empty); a trace has"),
        (
            "submit_s;gpus;duration_s\n0;1;60\n",
            " (its columns are separated by semicolons, and not by commas); a trace has",
        ),
        (
            "submit_s\tgpus\tduration_s\n0\t1\t60\n",
            " (its columns are separated by tabs, and not by commas); a trace has",
        ),
        ("submit_s,gpus,gpus,duration_s\n0,1,2,60\n", ": column gpus is there twice; leave one of them"),
        (
            "submit_s,gpus,duration_s\n0,1,60\n1,1,60,5\n",
            ", row 3: it has 4 cells, and the head has 3; a number is written with a",
        ),
        ('submit_s,gpus,duration_s\n0,1,"60\n1,1,60\n', ": cannot be read as a trace: unexpected end of data"),
        (
            "submit_s,gpus,duration_s\n0,1,\xff\n",
            ": cannot be read as a trace: it is not text in UTF-8; is it compressed?",
        ),
    ],
)
def test_what_is_no_table_of_commas_is_told_apart(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError) as refused:
        read_trace(path, QUEUES)
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffsubmit_s,gpus,duration_s\r\n0,1,60\r\n",
        " submit_s, gpus, duration_s\n 0 , 1, 60\n\n",
        "submit_s,gpus,duration_s,\n0,1,60,,\n",
    ],
    ids=["of Excel", "with spaces and an empty line", "with a comma at the end"],
)
def test_what_programs_add_to_a_table_does_not_matter(text: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text, newline="")
    assert read_trace(path, QUEUES) == (Submission(submit_s=0, gpus=1, duration_s=60, queue="train"),)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
def test_a_device_is_not_read_to_its_end(path: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read as a trace: it is a device, which has no end"):
        read_trace(Path(path), QUEUES)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read as a trace: No such file"):
        read_trace(tmp_path / "none.csv", QUEUES)


def test_a_local_machine_is_what_the_fleet_file_says() -> None:
    box = a_resource("box", provider="local", settings={"gpus": 4, "usd_per_hour": 2.5, "gpu_model": "A10"})
    (offer,) = offers_of([box], None)["box"]
    assert (offer.gpus, offer.price_usd_per_hour, offer.gpu_model, offer.type) == (4, 2.5, "A10", "local-4gpu")


def test_offers_come_by_market_then_type_then_zone(tmp_path: Path) -> None:
    resource = a_resource(
        provider="aws",
        region="us-east-1",
        zones=("us-east-1a", "us-east-1b"),
        instance_types=("g6.xlarge",),
        market=MarketPolicy.SPOT_THEN_ON_DEMAND,
    )
    offers = offers_of([resource], written(tmp_path / "p.csv", PRICES))["gpu"]
    assert [(o.market, o.zone, o.price_usd_per_hour) for o in offers] == [
        (Market.SPOT, "us-east-1a", 0.4),
        (Market.SPOT, "us-east-1b", 0.4),
        (Market.ON_DEMAND, "us-east-1a", 0.8),
        (Market.ON_DEMAND, "us-east-1b", 0.8),
    ]


def test_the_region_of_a_resource_is_where_its_zones_are(tmp_path: Path) -> None:
    resource = a_resource(provider="gcp", zones=("us-central1-a",), instance_types=("g2-standard-4",))
    (offer,) = offers_of([resource], written(tmp_path / "p.csv", PRICES))["gpu"]
    assert (offer.region, offer.price_usd_per_hour) == ("us-central1", 0.7)


def test_a_local_resource_that_names_no_gpus_has_none() -> None:
    (offer,) = offers_of([a_resource("cpu", provider="local", settings={"cpus": 8})], None)["cpu"]
    assert (offer.type, offer.gpus, offer.cpus, offer.price_usd_per_hour) == ("local-cpu", 0, 8, 0.0)


def test_every_type_of_unknown_shape_or_price_is_named_in_one_line(tmp_path: Path) -> None:
    prices = written(tmp_path / "p.csv", PRICES)
    types = ("g6f.large", "p4d.24xlarge", "p5.48xlarge", "g6.xlarge")
    resource = a_resource("cloud", provider="aws", region="us-east-1", instance_types=types, market=MarketPolicy.SPOT)
    elsewhere = a_resource("far", provider="aws", region="eu-north-1", instance_types=("g6.xlarge",))
    real = a_resource("box", provider="local", settings={"gpus": "real"})
    with pytest.raises(ConfigError) as caught:
        offers_of([resource, elsewhere, real], prices)
    assert str(caught.value).replace(str(prices), "FILE").split("; resources") == [
        "resources.cloud.instance_types: g6f.large has 0.125 of a GPU; parts of a GPU cannot be simulated",
        ".cloud.instance_types: p4d.24xlarge has no spot price in FILE",
        ".cloud.instance_types: p5.48xlarge is not in FILE in us-east-1",
        ".far.instance_types: g6.xlarge is not in FILE in eu-north-1; it lists us-east-1, us-west-2",
        ".box.gpus: say how many, the simulator cannot look at the machine",
    ]


def test_a_price_file_without_its_columns_says_which(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no column count, on_demand_usd_h"):
        offers_of([a_resource(provider="aws")], written(tmp_path / "p.csv", "instance_type,price\ng6.xlarge,1\n"))
