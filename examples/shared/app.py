"""The Python half of two programs that share entries in one Redis: the other is `main.rs`.

``python examples/shared/app.py redis://127.0.0.1:6379/0 1 2`` shows products 1 and 2. Whichever program is asked for a
product first loads it, and for five minutes both have it. The names must agree: that of the cache, and the key's.
"""

import asyncio
import csv
import sys
from dataclasses import dataclass
from pathlib import Path

from samovar import Cache

PRODUCTS = Path(__file__).with_name("products.csv")


@dataclass
class Product:
    """What both programs know of a product. What Rust has written, a map by these names, is read as one."""

    name: str
    cents: int
    colours: list[str]
    kilograms: float | None
    loaded_by: str


def load(product_id: int) -> Product:
    """Read a product from the file both programs have for a database."""
    with PRODUCTS.open(encoding="utf-8", newline="") as lines:
        for number, name, cents, colours, kilograms in csv.reader(lines):
            if int(number) == product_id:
                weight = float(kilograms) if kilograms else None
                return Product(name, int(cents), colours.split(), weight, "Python")
    raise LookupError(f"there is no product {product_id} in {PRODUCTS.name}")


def shown(product_id: int, product: Product) -> str:
    """One line, the same in both programs."""
    weight = "unknown" if product.kilograms is None else f"{product.kilograms} kg"
    facts = f"{product.cents} cents, colours {'+'.join(product.colours) or 'none'}, weight {weight}"
    return f"product {product_id}: {product.name}, {facts}, loaded by {product.loaded_by}"


async def main(url: str, numbers: list[str]) -> None:
    """Show these products."""
    async with Cache(url, name="shop") as cache:

        @cache.cached("5m", key="product:{product_id}")
        async def product(product_id: int) -> Product:
            return load(product_id)

        for number in map(int, numbers):
            print(shown(number, await product(number)))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("give the URL of a Redis and numbers of products: redis://127.0.0.1:6379/0 1 2")
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
