//! Folds and combinations that processes train one by one.

use super::*;

fn gather(folder: &Path, more: &[&str]) -> (i32, String, String) {
    let folder = folder.display().to_string();
    let mut host = Command::new(host_binary());
    host.args(["train", "--gather", &folder]).args(more).current_dir(workspace());
    let output = host.env("ANYMC3D_HOME", workspace().join("target/no-such-home")).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[test]
fn folds_that_processes_train_one_by_one_gather_to_the_tables_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, apart) = (folder.path().join("whole"), folder.path().join("apart"));
    let one = train(&bench().probe, &whole, &["--epochs", "1", "--folds", "3"]);
    assert_eq!(one.0, 0, "{one:?}");
    for fold in ["2", "0"] {
        let ran = train(&bench().probe, &apart, &["--epochs", "1", "--folds", "3", "--fold", fold]);
        assert_eq!(ran.0, 0, "{ran:?}");
    }
    let early = gather(&apart, &["--folds", "3"]);
    assert!(early.0 == 1 && early.2.contains("fold-2") && early.2.contains("is this run done?"), "{early:?}");
    train(&bench().probe, &apart, &["--epochs", "1", "--folds", "3", "--fold", "1"]);
    let gathered = gather(&apart, &["--folds", "3"]);
    assert_eq!(gathered.0, 0, "{gathered:?}");
    let table = |out: &Path| fs::read(out.join("predictions.csv")).unwrap();
    assert_eq!(table(&apart), table(&whole));
    let areas = |out: &str| out.lines().find(|l| l.contains("3 folds: ")).map(str::to_owned);
    assert_eq!(areas(&gathered.1), areas(&one.1));

    let beyond = train(&bench().probe, &apart, &["--epochs", "1", "--folds", "3", "--fold", "3"]);
    assert!(beyond.0 == 2 && beyond.2.contains("--fold 3: there are 3 folds, counted from 0"), "{beyond:?}");
    let what = gather(&apart, &[]);
    assert!(what.0 == 2 && what.2.contains("give --folds K or --sweep F.toml"), "{what:?}");
}

#[test]
fn combinations_that_processes_train_one_by_one_gather_to_the_table_of_a_sweep() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, apart) = (folder.path().join("whole"), folder.path().join("apart"));
    let grid = folder.path().join("grid.toml");
    fs::write(&grid, "[grid]\nseed = [1, 2]\n").unwrap();
    let grid = grid.display().to_string();
    let one = train(&bench().probe, &whole, &["--epochs", "1", "--sweep", &grid]);
    assert_eq!(one.0, 0, "{one:?}");
    for point in ["1", "0"] {
        let ran = train(&bench().probe, &apart, &["--epochs", "1", "--sweep", &grid, "--point", point]);
        assert_eq!(ran.0, 0, "{ran:?}");
    }
    assert_eq!(gather(&apart, &["--sweep", &grid]).0, 0);
    // All but the last column, which is the time that it took.
    let table = |out: &Path| -> Vec<String> {
        let text = fs::read_to_string(out.join("sweep.csv")).unwrap();
        text.lines().map(|line| line.rsplit_once(',').unwrap().0.to_owned()).collect()
    };
    assert_eq!((table(&apart).len(), table(&apart)), (3, table(&whole)));
    let beyond = train(&bench().probe, &apart, &["--epochs", "1", "--sweep", &grid, "--point", "2"]);
    assert!(beyond.0 == 2 && beyond.2.contains("--point 2: the grid has 2 combinations"), "{beyond:?}");
}
