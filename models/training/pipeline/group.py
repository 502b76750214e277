"""One worker of a stage that is spread over several processes.

Apart from the command line, because a spawned process does not import the module that was run with `-m`.
"""


def call(target: str) -> None:
    """Calls `module:function` of this package."""
    module, function = target.split(":")
    getattr(__import__(f"pipeline.{module}", fromlist=[function]), function)()


def member(rank: int, count: int, target: str, meeting: str) -> None:
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=count)
    call(target)
    dist.barrier()
    dist.destroy_process_group()
