"""Triton kernels of neighbourhood attention: forward, and the gradients of q, k, v and the bias.

The queries of a tile attend, by masked attention on the tensor cores, to their box of keys; the keys
of a tile gather their gradients from their box of queries. Pixels of a class are addressed by
strides, so nothing is regrouped, padded or copied, whatever sides and dilation. Every head looks up
its own kernel size and dilation, so that one launch serves groups of heads with different
neighbourhoods. Logits are held times log2(e), because the hardware's exponential is 2^x. The bias is
what the products of queries and keys are added to: brought into their layout once, before them, and
not the logits into the layout in which it is read. Nothing is added atomically: results never depend
on the order in which programs run.

Tensors (strides in elements, channels contiguous):
    q, k, v and their gradients   any strides, the same for all three
    out, grad                     (batch, height, width, heads, HEAD_DIM)
    lse, delta                    (batch, heads, slots): per query log2 of the softmax's denominator,
                                  and grad·out; a class lies together in them, so that a tile reads
                                  them in whole lines however large the dilation
    bias                          the heads' tables one after the other, divided by scale
    groups                        (heads, 3): kernel size, dilation, first entry in bias
"""

import math

import triton
import triton.language as tl

from stylenat.models.attention.triton_tiles import (
    key_codes,
    keys_of,
    load,
    members,
    pixels,
    position_bias,
    queries_of,
    query_codes,
    slot_of,
    store,
    tile_of,
)

LOG2_E = tl.constexpr(math.log2(math.e))


@triton.jit
def forward(
    q, k, v, bias, groups, out, lse,
    heads, tiles, height, width, slots, stride_b, stride_h, stride_y, stride_x, scale,
    HEAD_DIM: tl.constexpr, BIASED: tl.constexpr, ALIGN: tl.constexpr, PRECISION: tl.constexpr,
    TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: a tile of queries of one head of one image."""
    program = tl.program_id(0)
    head = program % heads
    image = (program // heads // tiles).to(tl.int64)
    kernel_size = tl.load(groups + 3 * head)
    dilation = tl.load(groups + 3 * head + 1)
    if BIASED:
        bias += tl.load(groups + 3 * head + 2)
    exists, class_y, class_x, rows, first_y, end_y, columns, first_x, end_x = tile_of(
        program // heads % tiles, height, width, dilation, TILE
    )
    if not exists:
        return

    y, x, valid = members(first_y, end_y, first_x, end_x, TILE)
    origin = image * stride_b + head * stride_h + class_y * stride_y + class_x * stride_x
    origin = tl.multiple_of(origin, ALIGN)
    step_y = dilation * stride_y
    step_x = dilation * stride_x
    queries = load(q + origin, y, x, valid, step_y, step_x, HEAD_DIM, ALIGN)
    window, query_entry = query_codes(y, x, rows, columns, kernel_size)

    top, bottom = keys_of(first_y, end_y, rows, kernel_size)
    left, right = keys_of(first_x, end_x, columns, kernel_size)
    size = (bottom - top) * (right - left)
    # The lowest number in place of -inf: a block may hold no key of a query, and -inf less -inf
    # is not a number.
    most = tl.full((TILE * TILE,), -3.0e38, tl.float32)
    total = tl.zeros((TILE * TILE,), tl.float32)
    result = tl.zeros((TILE * TILE, queries.shape[1]), tl.float32)
    for start in range(0, size, BLOCK):
        index = start + tl.arange(0, BLOCK)
        key_y, key_x = pixels(index, top, left, right - left)
        known = index < size
        keys = load(k + origin, key_y, key_x, known, step_y, step_x, HEAD_DIM, ALIGN)
        values = load(v + origin, key_y, key_x, known, step_y, step_x, HEAD_DIM, ALIGN)
        key, key_entry = key_codes(key_y, key_x, kernel_size)
        logits = position_bias(
            bias, window[:, None], query_entry[:, None], key[None, :], key_entry[None, :],
            kernel_size, BIASED,
        )  # fmt: skip
        logits = tl.dot(queries, tl.trans(keys), logits, input_precision=PRECISION)
        logits *= scale * LOG2_E
        higher = tl.maximum(most, tl.max(logits, 1))
        weights = tl.exp2(logits - higher[:, None])
        shrink = tl.exp2(most - higher)
        total = total * shrink + tl.sum(weights, 1)
        result = tl.dot(
            weights.to(values.dtype), values, result * shrink[:, None], input_precision=PRECISION
        )
        most = higher

    pixel = heads * HEAD_DIM
    origin = image * height * width * pixel + head * HEAD_DIM + (class_y * width + class_x) * pixel
    step_y = dilation * width * pixel
    store(out + origin, y, x, valid, step_y, dilation * pixel, result / total[:, None], HEAD_DIM)
    slot, row = slot_of(image, head, heads, slots, class_y, class_x, dilation, height, width)
    tl.store(lse + slot + y * row + x, most + tl.log2(total), mask=valid)


@triton.jit
def backward_queries(
    q, k, v, bias, groups, out, lse, grad, dq, delta,
    heads, tiles, height, width, slots, stride_b, stride_h, stride_y, stride_x,
    dstride_b, dstride_h, dstride_y, dstride_x, scale,
    HEAD_DIM: tl.constexpr, BIASED: tl.constexpr, ALIGN: tl.constexpr, PRECISION: tl.constexpr,
    TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: dq and delta of a tile of queries of one head of one image."""
    program = tl.program_id(0)
    head = program % heads
    image = (program // heads // tiles).to(tl.int64)
    kernel_size = tl.load(groups + 3 * head)
    dilation = tl.load(groups + 3 * head + 1)
    if BIASED:
        bias += tl.load(groups + 3 * head + 2)
    exists, class_y, class_x, rows, first_y, end_y, columns, first_x, end_x = tile_of(
        program // heads % tiles, height, width, dilation, TILE
    )
    if not exists:
        return

    y, x, valid = members(first_y, end_y, first_x, end_x, TILE)
    pixel = heads * HEAD_DIM
    origin = image * height * width * pixel + head * HEAD_DIM + (class_y * width + class_x) * pixel
    step_y = dilation * width * pixel
    step_x = dilation * pixel
    grads = load(grad + origin, y, x, valid, step_y, step_x, HEAD_DIM, ALIGN)
    outs = load(out + origin, y, x, valid, step_y, step_x, HEAD_DIM, ALIGN)
    product = tl.sum(grads.to(tl.float32) * outs.to(tl.float32), 1)
    slot, row = slot_of(image, head, heads, slots, class_y, class_x, dilation, height, width)
    slot += y * row + x
    tl.store(delta + slot, product, mask=valid)
    norm = tl.load(lse + slot, mask=valid, other=float("inf"))

    origin = image * stride_b + head * stride_h + class_y * stride_y + class_x * stride_x
    origin = tl.multiple_of(origin, ALIGN)
    step_y = dilation * stride_y
    step_x = dilation * stride_x
    queries = load(q + origin, y, x, valid, step_y, step_x, HEAD_DIM, ALIGN)
    window, query_entry = query_codes(y, x, rows, columns, kernel_size)
    top, bottom = keys_of(first_y, end_y, rows, kernel_size)
    left, right = keys_of(first_x, end_x, columns, kernel_size)
    size = (bottom - top) * (right - left)
    result = tl.zeros((TILE * TILE, queries.shape[1]), tl.float32)
    for start in range(0, size, BLOCK):
        index = start + tl.arange(0, BLOCK)
        key_y, key_x = pixels(index, top, left, right - left)
        known = index < size
        keys = load(k + origin, key_y, key_x, known, step_y, step_x, HEAD_DIM, ALIGN)
        values = load(v + origin, key_y, key_x, known, step_y, step_x, HEAD_DIM, ALIGN)
        key, key_entry = key_codes(key_y, key_x, kernel_size)
        logits = position_bias(
            bias, window[:, None], query_entry[:, None], key[None, :], key_entry[None, :],
            kernel_size, BIASED,
        )  # fmt: skip
        logits = tl.dot(queries, tl.trans(keys), logits, input_precision=PRECISION)
        logits *= scale * LOG2_E
        weights = tl.exp2(logits - norm[:, None])
        dweights = tl.dot(grads, tl.trans(values), input_precision=PRECISION)
        dlogits = weights * (dweights - product[:, None])
        result = tl.dot(dlogits.to(keys.dtype), keys, result, input_precision=PRECISION)

    origin = image * dstride_b + head * dstride_h + class_y * dstride_y + class_x * dstride_x
    step_y = dilation * dstride_y
    store(dq + origin, y, x, valid, step_y, dilation * dstride_x, result * scale, HEAD_DIM)


@triton.jit
def backward_keys(
    q, k, v, bias, groups, lse, delta, grad, dk, dv,
    heads, tiles, height, width, slots, stride_b, stride_h, stride_y, stride_x,
    dstride_b, dstride_h, dstride_y, dstride_x, scale,
    HEAD_DIM: tl.constexpr, BIASED: tl.constexpr, ALIGN: tl.constexpr, PRECISION: tl.constexpr,
    TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: dk and dv of a tile of keys of one head of one image."""
    program = tl.program_id(0)
    head = program % heads
    image = (program // heads // tiles).to(tl.int64)
    kernel_size = tl.load(groups + 3 * head)
    dilation = tl.load(groups + 3 * head + 1)
    if BIASED:
        bias += tl.load(groups + 3 * head + 2)
    exists, class_y, class_x, rows, first_y, end_y, columns, first_x, end_x = tile_of(
        program // heads % tiles, height, width, dilation, TILE
    )
    if not exists:
        return

    key_y, key_x, valid = members(first_y, end_y, first_x, end_x, TILE)
    origin = image * stride_b + head * stride_h + class_y * stride_y + class_x * stride_x
    origin = tl.multiple_of(origin, ALIGN)
    step_y = dilation * stride_y
    step_x = dilation * stride_x
    keys = load(k + origin, key_y, key_x, valid, step_y, step_x, HEAD_DIM, ALIGN)
    values = load(v + origin, key_y, key_x, valid, step_y, step_x, HEAD_DIM, ALIGN)
    key, key_entry = key_codes(key_y, key_x, kernel_size)

    pixel = heads * HEAD_DIM
    grad += image * height * width * pixel + head * HEAD_DIM + (class_y * width + class_x) * pixel
    slot, row = slot_of(image, head, heads, slots, class_y, class_x, dilation, height, width)
    top, bottom = queries_of(first_y, end_y, rows, kernel_size)
    left, right = queries_of(first_x, end_x, columns, kernel_size)
    size = (bottom - top) * (right - left)
    dkeys = tl.zeros((TILE * TILE, keys.shape[1]), tl.float32)
    dvalues = tl.zeros((TILE * TILE, keys.shape[1]), tl.float32)
    for start in range(0, size, BLOCK):
        index = start + tl.arange(0, BLOCK)
        known = index < size
        y, x = pixels(tl.minimum(index, size - 1), top, left, right - left)
        queries = load(q + origin, y, x, known, step_y, step_x, HEAD_DIM, ALIGN)
        grads = load(grad, y, x, known, dilation * width * pixel, dilation * pixel, HEAD_DIM, ALIGN)
        norm = tl.load(lse + slot + y * row + x, mask=known, other=float("inf"))
        product = tl.load(delta + slot + y * row + x, mask=known, other=0.0)
        # Everything is transposed here, (keys, queries), so that both products below take it as is.
        window, query_entry = query_codes(y, x, rows, columns, kernel_size)
        logits = position_bias(
            bias, window[None, :], query_entry[None, :], key[:, None], key_entry[:, None],
            kernel_size, BIASED,
        )  # fmt: skip
        logits = tl.dot(keys, tl.trans(queries), logits, input_precision=PRECISION)
        logits *= scale * LOG2_E
        weights = tl.exp2(logits - norm[None, :])
        dvalues = tl.dot(weights.to(grads.dtype), grads, dvalues, input_precision=PRECISION)
        dweights = tl.dot(values, tl.trans(grads), input_precision=PRECISION)
        dlogits = weights * (dweights - product[None, :])
        dkeys = tl.dot(dlogits.to(queries.dtype), queries, dkeys, input_precision=PRECISION)

    origin = image * dstride_b + head * dstride_h + class_y * dstride_y + class_x * dstride_x
    step_y = dilation * dstride_y
    step_x = dilation * dstride_x
    store(dk + origin, key_y, key_x, valid, step_y, step_x, dkeys * scale, HEAD_DIM)
    store(dv + origin, key_y, key_x, valid, step_y, step_x, dvalues, HEAD_DIM)


@triton.jit
def backward_bias(
    q, k, v, bias, groups, lse, delta, grad, partial,
    batch, images, heads, tiles, height, width, slots, stride_b, stride_h, stride_y, stride_x,
    blocks, work, entries, scale,
    HEAD_DIM: tl.constexpr, ALIGN: tl.constexpr, PRECISION: tl.constexpr,
    TILE: tl.constexpr, BLOCK: tl.constexpr, OFFSETS: tl.constexpr,
):  # fmt: skip
    """Add the bias gradients of one head to a row of partial sums, (rows, entries).

    A piece of work is one block of keys of one tile of queries in some of the images: its logits'
    gradients are summed over these images pair by pair, then by offset. Each program goes through
    every so many-th piece.
    """
    head = tl.program_id(0) % heads
    line = tl.program_id(0) // heads
    kernel_size = tl.load(groups + 3 * head)
    dilation = tl.load(groups + 3 * head + 1)
    table = tl.load(groups + 3 * head + 2)
    side = 2 * kernel_size - 1
    pixel = heads * HEAD_DIM
    for piece in range(line, work, tl.num_programs(0) // heads):
        start = piece % blocks * BLOCK
        tile = piece // blocks % tiles
        first_image = piece // blocks // tiles * images
        exists, class_y, class_x, rows, first_y, end_y, columns, first_x, end_x = tile_of(
            tile, height, width, dilation, TILE
        )
        top, bottom = keys_of(first_y, end_y, rows, kernel_size)
        left, right = keys_of(first_x, end_x, columns, kernel_size)
        size = (bottom - top) * (right - left)
        if exists & (start < size):
            y, x, valid = members(first_y, end_y, first_x, end_x, TILE)
            index = start + tl.arange(0, BLOCK)
            key_y, key_x = pixels(index, top, left, right - left)
            known = index < size
            window, query_entry = query_codes(y, x, rows, columns, kernel_size)
            key, key_entry = key_codes(key_y, key_x, kernel_size)
            added = position_bias(
                bias + table, window[:, None], query_entry[:, None], key[None, :],
                key_entry[None, :], kernel_size, True,
            )  # fmt: skip
            result = tl.zeros((TILE * TILE, BLOCK), tl.float32)
            for number in range(tl.minimum(images, batch - first_image)):
                image = first_image.to(tl.int64) + number
                slot, row = slot_of(
                    image, head, heads, slots, class_y, class_x, dilation, height, width
                )
                norm = tl.load(lse + slot + y * row + x, mask=valid, other=float("inf"))
                product = tl.load(delta + slot + y * row + x, mask=valid, other=0.0)
                origin = (image * height * width + class_y * width + class_x) * pixel
                origin += head * HEAD_DIM
                grads = load(
                    grad + origin, y, x, valid,
                    dilation * width * pixel, dilation * pixel, HEAD_DIM, ALIGN,
                )  # fmt: skip
                origin = (
                    image * stride_b + head * stride_h + class_y * stride_y + class_x * stride_x
                )
                origin = tl.multiple_of(origin, ALIGN)
                step_y = dilation * stride_y
                step_x = dilation * stride_x
                queries = load(q + origin, y, x, valid, step_y, step_x, HEAD_DIM, ALIGN)
                keys = load(k + origin, key_y, key_x, known, step_y, step_x, HEAD_DIM, ALIGN)
                values = load(v + origin, key_y, key_x, known, step_y, step_x, HEAD_DIM, ALIGN)
                logits = tl.dot(queries, tl.trans(keys), added, input_precision=PRECISION)
                weights = tl.exp2(logits * (scale * LOG2_E) - norm[:, None])
                dweights = tl.dot(grads, tl.trans(values), input_precision=PRECISION)
                result += weights * (dweights - product[:, None])

            # Of the table's rows, those between this block's keys and queries that attend to them.
            first_key = top + start // (right - left)
            last_key = top + (tl.minimum(start + BLOCK, size) - 1) // (right - left)
            lowest = tl.maximum(first_key, bottom - kernel_size) - (end_y - 1)
            highest = tl.minimum(last_key, top + kernel_size - 1) - first_y
            end_offset = (highest + kernel_size) * side
            for first_offset in range((lowest + kernel_size - 1) * side, end_offset, OFFSETS):
                # Every query's pair of each offset, if it is in this block, then their sum.
                offset = first_offset + tl.arange(0, OFFSETS)
                pair_y = y[:, None] + (offset // side - kernel_size + 1)[None, :] - top
                pair_x = x[:, None] + (offset % side - kernel_size + 1)[None, :] - left
                pair = pair_y * (right - left) + pair_x - start
                found = (pair_x >= 0) & (pair_x < right - left) & (pair >= 0) & (pair < BLOCK)
                pairs = tl.gather(result, tl.where(found, pair, 0), 1)
                sums = tl.sum(tl.where(found, pairs, 0.0), 0)
                target = partial + line * entries + table + offset
                inside = offset < end_offset
                tl.store(target, tl.load(target, mask=inside, other=0.0) + sums, mask=inside)
