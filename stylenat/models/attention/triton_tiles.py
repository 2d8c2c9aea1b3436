"""What the Triton kernels of neighbourhood attention have in common: tiles, boxes, bias.

Pixels whose coordinates are congruent modulo the dilation form a class, and attention never leaves
a class. Within it, pixels are numbered by row and column; a class is cut into tiles of TILE x TILE
pixels. The union of the windows of a tile's queries is a box of keys, and those queries that attend
to any key of a tile fill a box, too.
"""

import triton
import triton.language as tl


@triton.jit
def ceil_div(a, b):
    return (a + b - 1) // b


@triton.jit
def tile_of(number, height, width, dilation, TILE: tl.constexpr):
    """The tile that has a number in one head of one image.

    Returns whether there is one, the row and column of its class, then for both axes how many
    members the class has and where the tile begins and ends. Numbers are dealt out as if all
    classes were as long as the longest.
    """
    down = ceil_div(ceil_div(height, dilation), TILE)
    across = ceil_div(ceil_div(width, dilation), TILE)
    class_y = number // (down * across) // dilation
    class_x = number // (down * across) % dilation
    rows = (height - class_y + dilation - 1) // dilation
    columns = (width - class_x + dilation - 1) // dilation
    top = number // across % down * TILE
    left = number % across * TILE
    exists = (class_y < dilation) & (top < rows) & (left < columns)
    bottom = tl.minimum(top + TILE, rows)
    right = tl.minimum(left + TILE, columns)
    return exists, class_y, class_x, rows, top, bottom, columns, left, right


@triton.jit
def members(top, bottom, left, right, TILE: tl.constexpr):
    """Rows and columns of a tile's pixels, and which of them count: those beyond its end do not,
    and stand in the last row or column, so that no table is ever read outside."""
    member = tl.arange(0, TILE * TILE)
    y = top + member // TILE
    x = left + member % TILE
    valid = (y < bottom) & (x < right)
    return tl.minimum(y, bottom - 1), tl.minimum(x, right - 1), valid


@triton.jit
def slot_of(image, head, heads, slots, class_y, class_x, dilation, height, width):
    """Where a class begins in lse and delta, and how long its rows are there."""
    longest_x = ceil_div(width, dilation)
    longest = ceil_div(height, dilation) * longest_x
    return (image * heads + head) * slots + (class_y * dilation + class_x) * longest, longest_x


@triton.jit
def window_of(query, members, kernel_size):
    """First key that a query attends to."""
    return tl.minimum(tl.maximum(query - kernel_size // 2, 0), members - kernel_size)


@triton.jit
def keys_of(first, end, members, kernel_size):
    """First and end of the keys that queries first … end - 1 attend to."""
    return (
        window_of(first, members, kernel_size),
        window_of(end - 1, members, kernel_size) + kernel_size,
    )


@triton.jit
def queries_of(first, end, members, kernel_size):
    """First and end of the queries that attend to keys first … end - 1: the inverse of `keys_of`."""
    radius = kernel_size // 2
    return (
        tl.where(first < kernel_size, 0, first - radius),
        tl.where(end > members - kernel_size, members, end + radius),
    )


@triton.jit
def pixels(index, first_y, first_x, columns):
    """Coordinates of entries of a box, which is counted row by row."""
    # A division by multiplication. Half an entry further on it is exact where the box has up to 2^20
    # entries: the quotient is never closer to an integer than its error.
    inverse = tl.cast(2147483647 // columns, tl.uint32) + 1
    row = tl.umulhi((2 * index + 1).to(tl.uint32), inverse).to(tl.int32)
    return first_y + row, first_x + index - row * columns


@triton.jit
def load(pointer, y, x, valid, stride_y, stride_x, HEAD_DIM: tl.constexpr, ALIGN: tl.constexpr):
    """(pixels, channels) from a pointer to a class; zeros where not valid and in added channels."""
    channels: tl.constexpr = max(16, triton.next_power_of_2(HEAD_DIM))
    channel = tl.arange(0, channels)
    offset = tl.multiple_of(y * stride_y + x * stride_x, ALIGN)
    mask = valid[:, None]
    if HEAD_DIM != channels:
        mask = mask & (channel < HEAD_DIM)[None, :]
    return tl.load(pointer + (offset[:, None] + channel[None, :]), mask=mask, other=0.0)


@triton.jit
def store(pointer, y, x, valid, stride_y, stride_x, value, HEAD_DIM: tl.constexpr):
    channel = tl.arange(0, value.shape[1])
    offset = (y * stride_y + x * stride_x)[:, None] + channel[None, :]
    mask = valid[:, None] & (channel < HEAD_DIM)[None, :]
    tl.store(pointer + offset, value.to(pointer.dtype.element_ty), mask=mask)


@triton.jit
def query_codes(y, x, rows, columns, kernel_size):
    """A query's window, as a pair of 16-bit numbers, and its part of the place in the table."""
    window_y = window_of(y, rows, kernel_size)
    window_x = window_of(x, columns, kernel_size)
    side = 2 * kernel_size - 1
    return window_y * 65536 + window_x, (kernel_size - 1 - y) * side + kernel_size - 1 - x


@triton.jit
def key_codes(y, x, kernel_size):
    """What `query_codes` is for a query, for a key."""
    return y * 65536 + x, y * (2 * kernel_size - 1) + x


@triton.jit
def position_bias(bias, window, query_entry, key, key_entry, kernel_size, BIASED: tl.constexpr):
    """What is added to the logits: the table's entry, -inf where a query does not attend to a key.

    Codes of queries and keys broadcast against each other, in either order.
    """
    # Two comparisons for each axis at once: a negative number has its highest bit set, and what one
    # half borrows from the other matters only where the pair is outside anyway.
    before = key - window
    outside = (before | ((kernel_size - 1) * 65537 - before)) & -2147450880  # 0x80008000
    if BIASED:
        return tl.load(bias + (key_entry + query_entry), mask=outside == 0, other=float("-inf"))
    else:
        return tl.where(outside == 0, 0.0, float("-inf"))
