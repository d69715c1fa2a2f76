"""What a machine costs: a small table, since Amazon's price list is another service with a permission of its own."""

SOURCE, AS_OF, REGION = "https://aws.amazon.com/ec2/pricing/on-demand/", "2026-09", "us-east-1"
DISK_GB_HOUR = 0.08 / 730  # gp3
ADDRESS_HOUR = 0.005  # every public IPv4 address

# Dollars an hour, Linux, on demand. The p types are left out: their prices were cut several times lately.
ON_DEMAND = {
    "t3.large": 0.0832,
    "t3.xlarge": 0.1664,
    "m7i.large": 0.1008,
    "m7i.xlarge": 0.2016,
    "m7i.2xlarge": 0.4032,
    "c7g.large": 0.0725,
    "c7g.xlarge": 0.145,
    "c7g.2xlarge": 0.29,
    "c7g.4xlarge": 0.58,
    "c7i.large": 0.08925,
    "c7i.xlarge": 0.1785,
    "c7i.2xlarge": 0.357,
    "c7i.4xlarge": 0.714,
    "c7i.8xlarge": 1.428,
    "g4dn.xlarge": 0.526,
    "g4dn.2xlarge": 0.752,
    "g5.xlarge": 1.006,
    "g5.2xlarge": 1.212,
    "g6.xlarge": 0.8048,
    "g6.2xlarge": 0.9776,
    "g6e.xlarge": 1.861,
}


def hourly(instance: str, spot: float | None, disk_gb: int) -> float | None:
    """Dollars an hour of a machine with its disk and address, at the `spot` price where there is one; None if unknown."""
    machine = ON_DEMAND.get(instance) if spot is None else spot
    return None if machine is None else machine + disk_gb * DISK_GB_HOUR + ADDRESS_HOUR


def estimate(instance: str, spot: float | None, disk_gb: int, hours: float, region: str) -> str:
    """What a machine costs an hour and at most, for people."""
    price = hourly(instance, spot, disk_gb)
    if price is None:
        return f"the price of {instance} is not known here: look it up at {SOURCE}"
    if spot is not None:
        origin = f"the spot price in {region} now"
    else:
        origin = f"on demand in {REGION}, {SOURCE}, {AS_OF}"
        if region != REGION:
            origin += f"; {region}'s own price is not known here"
    return f"${price:.2f} an hour with disk and address ({origin}), so at most ${price * hours:.2f}"
