# What can be asked for, as lists of files.


def tables(names):
    return [f"results/{name}_{table}.csv" for name in names for table in table_names([name])]


def overviews(names):
    return [f"results/{name}_overview.html" for name in names]


def grids(names):
    return [
        f"results/{name}/grids/{step}.png" for name in names for step in EXPERIMENTS[name].snapshots
    ]


def pictures(names):
    """What is drawn of the last snapshot, as far as an experiment has it."""
    wanted = []
    for name in names:
        it = EXPERIMENTS[name]
        model = it.config.model
        wanted += [
            f"results/{name}/{picture}"
            for picture in ("receptive.svg", "latents/truncation.png", "spectrum.svg")
        ]
        if it.curated:
            wanted.append(f"results/{name}/grids/curated.png")
        if any(BLOCKS[block].has_neighbourhoods for block in model.block):
            wanted.append(f"results/{name}/attention/reach.svg")
        # Where the attention maps begin.
        if any(
            BLOCKS[block].has_neighbourhoods and side >= 16
            for block, side in zip(model.block, model.resolutions)
        ):
            wanted.append(f"results/{name}/attention/neighbourhoods.png")
    return wanted + copies(names)


def pages(names):
    """Pages that sample in a browser, of experiments that have one: making them needs packages and a
    download that nothing else needs, so only who wants one asks for it, and from then on it is kept.
    """
    return [page for name in names if Path(page := f"results/{name}/play.html").exists()]


def curves(names):
    return [
        f"results/{name}/training.svg" for name in names if EXPERIMENTS[name].checkpoint is None
    ]


def copies(names):
    """Samples beside the training images nearest to them, where a protocol looks for copies."""
    return [
        f"results/{name}/copies/{EXPERIMENTS[name].snapshots[-1]}.{protocol}.png"
        for name in names
        for protocol in protocols_of(name)
        if metric(protocol).shows_nearest
    ]


def local_families():
    """Families that can run on any machine."""
    return [name for name, it in FAMILIES.items() if EXPERIMENTS[it.experiments[0]].device == "any"]
