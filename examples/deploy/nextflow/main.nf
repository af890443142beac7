// A cohort as 8 tasks of Nextflow:  nextflow run main.nf --cohort /data/scans --out /data/results
// --cohort and --out are absolute paths on storage that all tasks share. See docs/batch.md.
nextflow.enable.dsl = 2

params.cohort = null
params.out    = null
params.plugin = 'lung_nodule'
params.shards = 8
params.host   = 'host'

process LIST {
    cache false

    output:
    val true

    script:
    """
    ${params.host} batch --plugin ${params.plugin} ${params.cohort} --out ${params.out} --list
    """
}

process SHARD {
    cpus 4
    memory '8 GB'
    time '12h'
    // 75: stopped before all was done; 137 and 143: killed.
    errorStrategy { task.exitStatus in [75, 137, 143] ? 'retry' : 'finish' }
    maxRetries 5

    input:
    val listed
    each index

    output:
    val index

    // 1: cases failed; they are rows with their reason.
    script:
    """
    ${params.host} batch --plugin ${params.plugin} ${params.cohort} --out ${params.out} \\
      --shard ${index}/${params.shards} --threads ${task.cpus} || test \$? -eq 1
    """
}

process MERGE {
    cache false

    input:
    val shards

    output:
    stdout

    script:
    """
    ${params.host} merge ${params.out}
    """
}

workflow {
    SHARD(LIST(), 0..(params.shards as int) - 1)
    MERGE(SHARD.out.collect()) | view
}
