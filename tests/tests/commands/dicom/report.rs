//! `--report` and the table at the end, and scans of other formats: what people see of several cases.

use super::*;

#[test]
fn several_cases_end_with_a_table_and_their_reports_show_a_patient_only_where_identity_is_kept() {
    let place = tempfile::tempdir().unwrap();
    let export = place.path().join("export");
    write_series(&export.join("one"), &CT);
    write_series(&export.join("two"), &Made { study: "1.2.826.99.7777.2", ..CT });
    for isolate in [&[][..], &["--isolate"]] {
        let out = place.path().join(format!("out{}", isolate.len()));
        let mut arguments = vec![text(&export), "--out", text(&out), "--report", "-v"];
        arguments.extend(isolate);
        let ran = run(&bench().ct, &arguments);
        assert_eq!(ran.code, 0, "{ran:#?}");
        assert_anonymous(&ran, &out);
        let cases: Vec<String> = names(&out).into_iter().filter(|n| n != "id-salt").collect();
        let head = ran.out.lines().position(|l| l.starts_with("case ") && l.ends_with("time")).unwrap();
        let rows: Vec<&str> = ran.out.lines().skip(head + 1).take(2).collect();
        for case in &cases {
            let row = rows.iter().find(|row| row.starts_with(case.as_str())).unwrap();
            assert!(row.contains("lung_nodule") && row.contains('│') && row.ends_with(" s"), "{row}");
            let report = out.join(case).join("lung_nodule/report.html");
            assert!(ran.out.contains(&format!("report: {}", report.display())), "{ran:#?}");
            let page = fs::read_to_string(report).unwrap();
            assert!(page.contains(&format!("<b id=\"case\">{case}</b>")));
            assert!(page.contains("Is there a lung nodule of 8 mm or more?"));
            assert!(page.contains("series 2 (8 slices every 4.00 mm, axial): modality CT"));
        }
    }
    let kept = place.path().join("kept");
    let ran =
        run(&bench().ct, &[text(&export), "--out", text(&kept), "--report", "--keep-identity", "--json"]);
    assert_eq!(ran.results()[0]["files"]["report"], "report.html");
    let page = fs::read_to_string(kept.join("PID4711-1.2.826.99.7777.1/lung_nodule/report.html")).unwrap();
    assert!(page.contains("ZEBRA QUAGGA") && page.contains("19330202"));
    assert_eq!(run(&bench().ct, &[text(&export), "--report"]).code, 2, "it needs a place");
}

#[test]
fn a_scan_gives_the_same_answer_as_nifti_nrrd_and_metaimage() {
    let place = tempfile::tempdir().unwrap();
    let series = place.path().join("series");
    write_series(&series, &CT);
    let scan = Scan::open(&series).unwrap();
    let scans = place.path().join("scans");
    fs::create_dir(&scans).unwrap();
    anymc3d_host::scan::write_nifti_f32(&scans.join("a.nii"), &scan.voxels, scan.shape, &scan.affine)
        .unwrap();
    let data: Vec<u8> = scan.voxels.iter().flat_map(|v| v.to_le_bytes()).collect();
    let column = |c: usize| [0, 1, 2].map(|r| scan.affine.0[r][c]);
    let vector = |v: [f64; 3]| format!("({},{},{})", v[0], v[1], v[2]);
    let [x, y, z] = scan.shape;
    let nrrd = format!(
        "NRRD0004\ntype: float\ndimension: 3\nspace: RAS\nsizes: {x} {y} {z}\nspace directions: {} {} {}\nendian: little\n\
         encoding: raw\nspace origin: {}\n\n",
        vector(column(0)),
        vector(column(1)),
        vector(column(2)),
        vector(column(3))
    );
    fs::write(scans.join("b.nrrd"), [nrrd.as_bytes(), &data].concat()).unwrap();
    // The series runs along LPS, as MetaImage counts.
    let [i, j, k] = scan.spacing_mm;
    let [r, a, s] = column(3);
    let header = format!(
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nElementByteOrderMSB = False\nTransformMatrix = 1 0 0 0 1 0 0 0 1\n\
         Offset = {} {} {s}\nElementSpacing = {i} {j} {k}\nDimSize = {x} {y} {z}\nElementType = MET_FLOAT\n\
         ElementDataFile = c.raw\n",
        -r, -a
    );
    fs::write(scans.join("c.mhd"), header).unwrap();
    fs::write(scans.join("c.raw"), data).unwrap();
    let results = run(&bench().ct, &["--json", text(&scans)]).results();
    assert_eq!(results.len(), 3, "{results:#?}");
    for other in &results[1..] {
        assert_eq!(other["predictions"], results[0]["predictions"], "{other:#?}");
        assert_eq!(
            other["warnings"].as_array().map(Vec::len),
            results[0]["warnings"].as_array().map(Vec::len),
            "{other:#?}"
        );
    }
}
