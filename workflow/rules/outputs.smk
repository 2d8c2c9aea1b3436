# What of a rule's outputs the report shows, with which caption and labels.


def shown(path, category, caption, **labels):
    """An output that the report shows. It sorts categories by name; hence their numbers."""
    labels = {"experiment": "{experiment}"} | labels
    return report(path, f"../report/{caption}.rst", category, labels=labels)


def picture(path, category, label):
    """An experiment's, with the caption of its name."""
    return shown(f"results/{{experiment}}/{path}", category, Path(path).stem, picture=label)


def samples(path, caption, labels):
    path, caption = f"results/{{experiment}}/{path}", f"../report/{caption}.rst"
    return report(path, caption, "2 Samples", "{experiment}", labels)


def both(svg):
    """A figure as the report shows it, and as PNG."""
    return [svg, svg.removesuffix("svg") + "png"]


def figure(path, label, caption):
    caption, labels = f"../report/{caption}.rst", {"figure": label}
    return both(report(f"results/{path}.svg", caption, "5 Figures", labels=labels))
