//! Parameters of the paper's method, counted on tasks that were built through their plugins.

use super::*;

fn count(library: &Library, backbone: &BackboneInfo) -> (usize, usize, usize) {
    let options = TaskOptions::default();
    let task = Task::build(library, backbone, drawn(0), DType::F32, &Device::Cpu, &options).unwrap();
    task.parameter_counts()
}

#[test]
fn the_paper_s_parameter_counts_come_out_of_built_models() {
    let mut paper = opened(&support::plugin("paper"));
    for (embed_dim, blocks, patch, total) in
        [(384, 12, 14, 229_729), (768, 12, 16, 456_193), (1024, 24, 16, 1_196_033)]
    {
        let (adapter, head, segmentation) = count(&paper, &backbone(embed_dim, blocks, patch));
        assert_eq!((adapter + head, head, segmentation), (total, 2 * embed_dim + 1, 0), "width {embed_dim}");
    }
    let task = &mut paper.embedded.manifest.task;
    task.kind = anymc3d_manifest::TaskKind::Multilabel;
    task.labels = (0..18).map(|i| format!("finding {i}")).collect();
    let (adapter, head, _) = count(&paper, &backbone(768, 12, 14));
    assert_eq!((adapter + head, head), (467_826, 768 + 18 * 769));
}

#[test]
fn the_lung_nodule_plugin_adapts_the_second_half_of_the_blocks() {
    let library = opened(&support::plugin("lung_nodule"));
    // Six blocks, each (d + 3d) r for q, k, v and (d + d) r for the output, d = 384, r = 8.
    // The head reads the linear layer that the mask supervises, so it is there at inference too.
    assert_eq!(count(&library, &backbone(384, 12, 14)), (6 * 6 * 384 * 8, 770, 385));
    let options = TaskOptions { segmentation: true, ..TaskOptions::default() };
    let backbone = backbone(384, 12, 14);
    let task = Task::build(&library, &backbone, drawn(0), DType::F32, &Device::Cpu, &options).unwrap();
    assert_eq!(task.parameter_counts().2, 385);
}
