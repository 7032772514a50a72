"""What a server lets a client ask of it."""

from dataclasses import dataclass, fields, replace

from convladder.errors import ConvladderError, check_choice, check_range

HIGHEST = {"connections": 100_000, "seconds": 86_400}  # more than systems take, and than a timer does


@dataclass(frozen=True)
class Limits:
    """What is refused, with a 4xx or a 503, before it costs more.

    Attributes:
        body: Bytes of a request's body.
        pixels: Pixels of all pictures of a request together, before they are shrunk to the model's size.
        images: Pictures of a request, or rows of a tensor.
        requests: Most requests at work at once; one more gets 503 and a Retry-After.
        connections: Connections open at once.
        seconds: To receive a request, to answer it, and to send the answer.
    """

    body: int = 16 * 2**20
    pixels: int = 25_000_000
    images: int = 256
    requests: int = 128
    connections: int = 512
    seconds: float = 30.0

    def __post_init__(self) -> None:
        for field in fields(self):
            check_range(f"limit {field.name}", getattr(self, field.name), 1, HIGHEST.get(field.name, 10**12))


def parse_limits(text: str) -> Limits:
    """Read limits as the command line gives them: "body=1000000,images=64"; those not named stay as they are.

    Raises:
        ConvladderError: No such limit, or no number of at least 1.
    """
    kinds = {field.name: type(getattr(Limits(), field.name)) for field in fields(Limits)}
    changes = {}
    for item in filter(None, text.split(",")):
        name, _, value = item.partition("=")
        check_choice("limit", name.strip(), kinds)
        try:
            changes[name.strip()] = kinds[name.strip()](value)
        except ValueError as error:
            raise ConvladderError(f"limit {item!r} is no number. Expected, for example, {name}=64.") from error
    return replace(Limits(), **changes)
