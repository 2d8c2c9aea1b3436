# How fast this machine is. Not part of `all`; without an output, so it runs whenever it is asked for,
# and with as many threads as there are, so that nothing else runs beside it.
rule benchmarks:
    log:
        attention="results/logs/benchmarks/attention.log",
        generator="results/logs/benchmarks/generator.log",
        iteration="results/logs/benchmarks/iteration.log",
    conda:
        "../../envs/networks.yaml"
    threads: 64
    shell:
        "python -m benchmarks.attention --log {log.attention}"
        " && python -m benchmarks.generator --log {log.generator}"
        " && python -m benchmarks.iteration --log {log.iteration}"
