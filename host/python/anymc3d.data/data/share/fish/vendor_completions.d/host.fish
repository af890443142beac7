# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_host_global_optspecs
    string join \n q/quiet v/verbose h/help V/version
end

function __fish_host_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_host_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_host_using_subcommand
    set -l cmd (__fish_host_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c host -n "__fish_host_needs_command" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_needs_command" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_needs_command" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_needs_command" -s V -l version -d 'Print version'
complete -c host -n "__fish_host_needs_command" -f -a "run" -d 'Predict: run scans through one or more plugins'
complete -c host -n "__fish_host_needs_command" -f -a "batch" -d 'Predict a cohort: resumable, in shards over any number of processes'
complete -c host -n "__fish_host_needs_command" -f -a "merge" -d 'Merge a batch into predictions.csv, runs.csv and a summary'
complete -c host -n "__fish_host_needs_command" -f -a "train" -d 'Train a plugin\'s adapter and head on a table of labelled scans'
complete -c host -n "__fish_host_needs_command" -f -a "eval" -d 'Measure a task on labelled cases, or any model\'s scores: AUROC, calibration, charts'
complete -c host -n "__fish_host_needs_command" -f -a "embed" -d 'Export the backbone\'s features of a scan: `class` [S,d], `patches` [S,h,w,d], `class_attention` [S,h,w]'
complete -c host -n "__fish_host_needs_command" -f -a "doctor" -d 'Tell what this machine can do, what is wrong with a data table, before training on it, and what is in DICOM'
complete -c host -n "__fish_host_needs_command" -f -a "phantom" -d 'Make synthetic labelled scans: DIR/<case>.nii.gz, masks, table.csv, truth.json'
complete -c host -n "__fish_host_needs_command" -f -a "plugin" -d 'List, inspect, make and check plugins'
complete -c host -n "__fish_host_needs_command" -f -a "registry" -d 'Publish, find, install and verify signed packages of plugins'
complete -c host -n "__fish_host_needs_command" -f -a "backbone" -d 'List, inspect, import, pull and verify the frozen vision transformers that tasks run on'
complete -c host -n "__fish_host_needs_command" -f -a "weights" -d 'Bring weights from PyTorch, or take them there'
complete -c host -n "__fish_host_needs_command" -f -a "bench" -d 'Measure speed: kernels against the machine\'s limit, one task, many tasks, a training step, reading, starting'
complete -c host -n "__fish_host_needs_command" -f -a "self-test" -d 'Predict synthetic scans with the plugins that ship, and compare with the logits of the developers\' machine'
complete -c host -n "__fish_host_needs_command" -f -a "completions" -d 'Print what a shell completes this command line with'
complete -c host -n "__fish_host_needs_command" -f -a "man" -d 'Write the manual pages'
complete -c host -n "__fish_host_needs_command" -f -a "worker" -d 'Run plugins for another command, which survives if they end this process'
complete -c host -n "__fish_host_using_subcommand run" -s o -l out -d 'Folder for results: DIR/<case>/<plugin>. The file name or the table names the case. If the same scan runs again, its result is replaced. A result of another scan is never replaced: a second scan of the same name goes to DIR/<case>-<first 8 digits of its sha256>, with a warning' -r -F
complete -c host -n "__fish_host_using_subcommand run" -l csv -d 'Also write a table of all answers, a row for each case, failed ones with their reason: the predictions.csv of `host merge`' -r -F
complete -c host -n "__fish_host_using_subcommand run" -l view -d 'Build one case from several files: the scan of view NAME' -r
complete -c host -n "__fish_host_using_subcommand run" -l mask -d 'Mask of the finding, 1 inside, on the scan\'s grid: plugins with region = "mask" look there. For one case; a table has a column `mask`' -r -F
complete -c host -n "__fish_host_using_subcommand run" -l point -d 'A point in the finding, RAS mm: plugins with region = "point" look there. For one case; a table has a column `point`' -r
complete -c host -n "__fish_host_using_subcommand run" -l series -d 'The series of DICOM inputs, whatever the plugin asks for: its number (with .STACK where it has several: 4.1), @PLACE in the list of `host doctor`, or its UID; of one view with VIEW= before it. Rules that it breaks are told' -r
complete -c host -n "__fish_host_using_subcommand run" -l id-salt -d 'File with a secret of 16 bytes or more: names of DICOM cases are hashes of it and of the study [default: one that is made in --out, else one for this call]' -r -F
complete -c host -n "__fish_host_using_subcommand run" -l heatmap -d 'Write heatmap and preview beside each result [default: true with --out]' -r -f -a "true\t''
false\t''"
complete -c host -n "__fish_host_using_subcommand run" -s p -l plugin -d 'Plugin, by name or path; repeat the option for more plugins' -r
complete -c host -n "__fish_host_using_subcommand run" -l weights -d 'Trained weights, if one plugin is given; several, separated by commas, are an ensemble whose logits are averaged [default: the file beside the library, else the installed one]' -r -F
complete -c host -n "__fish_host_using_subcommand run" -l precision -d 'Number format of the matrix products; auto is bf16 where the device supports it, else f32' -r -f -a "auto\t''
f32\t''
bf16\t''"
complete -c host -n "__fish_host_using_subcommand run" -l lock -d 'Lock file that says which installed version runs [default: anymc3d.lock, if it exists]' -r -F
complete -c host -n "__fish_host_using_subcommand run" -l time-limit -d 'Longest time a plugin may take to open, and per case [default: 300]' -r
complete -c host -n "__fish_host_using_subcommand run" -l max-memory -d 'Most memory for the process, for example 2G: the host reads scans one after the other and refuses a scan that would need more. With --isolate it limits the address space of the plugins\' process, which ends if a plugin asks for more [default: the lowest of 80 % of the machine\'s memory, the control group\'s limit and RLIMIT_AS; see `host doctor`]' -r
complete -c host -n "__fish_host_using_subcommand run" -l record -d 'Also store in every result a digest that stands for this machine, or the account that ran it' -r -f -a "machine\t'A digest of the machine\'s id'
user\t'The account\'s name'"
complete -c host -n "__fish_host_using_subcommand run" -l array-spacing -d 'Distance between voxels of a NumPy archive (FILE.npz:SPLIT) along its axes D, H, W in mm [default: unknown, taken as 1]' -r
complete -c host -n "__fish_host_using_subcommand run" -l array-axes -d 'Where the axes D, H, W of a NumPy archive run to, for example SPL [default: unknown, taken as SAR]' -r
complete -c host -n "__fish_host_using_subcommand run" -l backbone -d 'Backbone, by name or folder [default: dinov2-small]' -r
complete -c host -n "__fish_host_using_subcommand run" -l device -d 'Device that computes: cpu, cuda:N, or auto (the first GPU that this build can use, else the processor)' -r
complete -c host -n "__fish_host_using_subcommand run" -l threads -d 'Number of threads that compute [default: one per core]' -r
complete -c host -n "__fish_host_using_subcommand run" -l overwrite -d 'Also replace results that earlier calls wrote for other scans of the same name'
complete -c host -n "__fish_host_using_subcommand run" -l skip-existing -d 'Skip cases whose result in --out was made from the same scan with the same plugin, weights, backbone and options'
complete -c host -n "__fish_host_using_subcommand run" -l json -d 'Print one line of JSON per case and plugin'
complete -c host -n "__fish_host_using_subcommand run" -l explain-plan -d 'Print what the tasks share and what each computes alone; run nothing'
complete -c host -n "__fish_host_using_subcommand run" -l watch -d 'Keep running after the last case. When a plugin\'s library or weights change, the host opens them again and predicts for the scans given by name once more; if it refuses the new build, the old build keeps running. The host predicts for scans that arrive or change in a folder as soon as they are complete. It reads tables once. It ends with Ctrl-C, or when its output is closed'
complete -c host -n "__fish_host_using_subcommand run" -l recursive -d 'Look into the folders below each folder too, with --watch into those that come later as well'
complete -c host -n "__fish_host_using_subcommand run" -l keep-identity -d 'Name DICOM cases by PatientID and StudyInstanceUID, and let --report show the patient; without it no identity is written anywhere but into the objects of --dicom-out'
complete -c host -n "__fish_host_using_subcommand run" -l dicom-out -d 'Also write each result of a DICOM series as DICOM objects, to DIR/<case>/<plugin>/dicom: sr.dcm (TID 1500 report), heatmap.dcm (parametric map on the series\' frames), preview.dcm (secondary capture), and with --segmentation segmentation.dcm. They carry the patient and study of the series; nothing else that is written does'
complete -c host -n "__fish_host_using_subcommand run" -l report -d 'Also write DIR/<case>/<plugin>/report.html, one page that needs no network: answer, scan with heat in three planes, what was done to the scan, versions and digests. A patient\'s name stands in it only with --keep-identity'
complete -c host -n "__fish_host_using_subcommand run" -l segmentation -d 'Run the plugin\'s segmentation decoder and print the volume it segments; with --out also write segmentation.nii.gz on the scan\'s grid: 1 where the probability is 0.5 or more. With several views the decoder segments the first that has a file. A plugin without a decoder gives a warning and no mask'
complete -c host -n "__fish_host_using_subcommand run" -l allow-yanked -d 'Run an installed version that its publisher withdrew for safety'
complete -c host -n "__fish_host_using_subcommand run" -l isolate -d 'Run the plugins in a child process. If a plugin crashes, exits or never returns, only the child ends: the host names the plugin, leaves it out from then on, and restarts the child for the other plugins'
complete -c host -n "__fish_host_using_subcommand run" -l micro-ct -d 'Accept voxels from 0.0001 mm (micro-CT); without this option the host refuses voxels below 0.01 mm. It always refuses voxels above 100 mm, an axis more than 1000 times as coarse as another, and a field of view above 5 m'
complete -c host -n "__fish_host_using_subcommand run" -l accept-licence -d 'Accept the licence of the backbone; recorded in $ANYMC3D_HOME, so it is asked once on a machine'
complete -c host -n "__fish_host_using_subcommand run" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand run" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c host -n "__fish_host_using_subcommand batch" -l manifest -d 'List of the work instead of INPUT: a table with the columns case and image (or image.VIEW), as work.csv is' -r -F
complete -c host -n "__fish_host_using_subcommand batch" -s o -l out -d 'Folder for the batch and its results; all processes of the batch share it' -r -F
complete -c host -n "__fish_host_using_subcommand batch" -l shard -d 'Do part I of N of the work, counted from 0, of about as many bytes as the others' -r
complete -c host -n "__fish_host_using_subcommand batch" -l shards -d 'Divide the work into N parts and do the one that the environment names: arrays of Slurm, SGE, PBS and LSF, indexed jobs of Kubernetes' -r
complete -c host -n "__fish_host_using_subcommand batch" -l first-index -d 'Index of the array\'s task that is part 0 [default: its lowest, if it has as many tasks as there are shards]' -r
complete -c host -n "__fish_host_using_subcommand batch" -l max-failures -d 'End after this many failed cases, those that failed before not counted' -r
complete -c host -n "__fish_host_using_subcommand batch" -l progress -d 'Progress: a bar on a terminal (else a line every half minute), lines of JSON on stdout, or none' -r -f -a "bar\t''
json\t''
none\t''"
complete -c host -n "__fish_host_using_subcommand batch" -l series -d 'The series of DICOM inputs, whatever the plugin asks for: its number (with .STACK where it has several: 4.1), @PLACE in the list of `host doctor`, or its UID; of one view with VIEW= before it. Rules that it breaks are told' -r
complete -c host -n "__fish_host_using_subcommand batch" -l id-salt -d 'File with a secret of 16 bytes or more: names of DICOM cases are hashes of it and of the study [default: one that is made in --out, else one for this call]' -r -F
complete -c host -n "__fish_host_using_subcommand batch" -l heatmap -d 'Write heatmap and preview beside each result [default: true with --out]' -r -f -a "true\t''
false\t''"
complete -c host -n "__fish_host_using_subcommand batch" -s p -l plugin -d 'Plugin, by name or path; repeat the option for more plugins' -r
complete -c host -n "__fish_host_using_subcommand batch" -l weights -d 'Trained weights, if one plugin is given; several, separated by commas, are an ensemble whose logits are averaged [default: the file beside the library, else the installed one]' -r -F
complete -c host -n "__fish_host_using_subcommand batch" -l precision -d 'Number format of the matrix products; auto is bf16 where the device supports it, else f32' -r -f -a "auto\t''
f32\t''
bf16\t''"
complete -c host -n "__fish_host_using_subcommand batch" -l lock -d 'Lock file that says which installed version runs [default: anymc3d.lock, if it exists]' -r -F
complete -c host -n "__fish_host_using_subcommand batch" -l time-limit -d 'Longest time a plugin may take to open, and per case [default: 300]' -r
complete -c host -n "__fish_host_using_subcommand batch" -l max-memory -d 'Most memory for the process, for example 2G: the host reads scans one after the other and refuses a scan that would need more. With --isolate it limits the address space of the plugins\' process, which ends if a plugin asks for more [default: the lowest of 80 % of the machine\'s memory, the control group\'s limit and RLIMIT_AS; see `host doctor`]' -r
complete -c host -n "__fish_host_using_subcommand batch" -l record -d 'Also store in every result a digest that stands for this machine, or the account that ran it' -r -f -a "machine\t'A digest of the machine\'s id'
user\t'The account\'s name'"
complete -c host -n "__fish_host_using_subcommand batch" -l array-spacing -d 'Distance between voxels of a NumPy archive (FILE.npz:SPLIT) along its axes D, H, W in mm [default: unknown, taken as 1]' -r
complete -c host -n "__fish_host_using_subcommand batch" -l array-axes -d 'Where the axes D, H, W of a NumPy archive run to, for example SPL [default: unknown, taken as SAR]' -r
complete -c host -n "__fish_host_using_subcommand batch" -l backbone -d 'Backbone, by name or folder [default: dinov2-small]' -r
complete -c host -n "__fish_host_using_subcommand batch" -l device -d 'Device that computes: cpu, cuda:N, or auto (the first GPU that this build can use, else the processor)' -r
complete -c host -n "__fish_host_using_subcommand batch" -l threads -d 'Number of threads that compute [default: one per core]' -r
complete -c host -n "__fish_host_using_subcommand batch" -l list -d 'Write work.csv and batch.json and end'
complete -c host -n "__fish_host_using_subcommand batch" -l retry-failed -d 'Try again what failed before'
complete -c host -n "__fish_host_using_subcommand batch" -l overwrite -d 'Continue a batch in DIR that has other options or other work with these'
complete -c host -n "__fish_host_using_subcommand batch" -l keep-identity -d 'Name DICOM cases by PatientID and StudyInstanceUID, and let --report show the patient; without it no identity is written anywhere but into the objects of --dicom-out'
complete -c host -n "__fish_host_using_subcommand batch" -l dicom-out -d 'Also write each result of a DICOM series as DICOM objects, to DIR/<case>/<plugin>/dicom: sr.dcm (TID 1500 report), heatmap.dcm (parametric map on the series\' frames), preview.dcm (secondary capture), and with --segmentation segmentation.dcm. They carry the patient and study of the series; nothing else that is written does'
complete -c host -n "__fish_host_using_subcommand batch" -l report -d 'Also write DIR/<case>/<plugin>/report.html, one page that needs no network: answer, scan with heat in three planes, what was done to the scan, versions and digests. A patient\'s name stands in it only with --keep-identity'
complete -c host -n "__fish_host_using_subcommand batch" -l segmentation -d 'Run the plugin\'s segmentation decoder and print the volume it segments; with --out also write segmentation.nii.gz on the scan\'s grid: 1 where the probability is 0.5 or more. With several views the decoder segments the first that has a file. A plugin without a decoder gives a warning and no mask'
complete -c host -n "__fish_host_using_subcommand batch" -l allow-yanked -d 'Run an installed version that its publisher withdrew for safety'
complete -c host -n "__fish_host_using_subcommand batch" -l isolate -d 'Run the plugins in a child process. If a plugin crashes, exits or never returns, only the child ends: the host names the plugin, leaves it out from then on, and restarts the child for the other plugins'
complete -c host -n "__fish_host_using_subcommand batch" -l micro-ct -d 'Accept voxels from 0.0001 mm (micro-CT); without this option the host refuses voxels below 0.01 mm. It always refuses voxels above 100 mm, an axis more than 1000 times as coarse as another, and a field of view above 5 m'
complete -c host -n "__fish_host_using_subcommand batch" -l accept-licence -d 'Accept the licence of the backbone; recorded in $ANYMC3D_HOME, so it is asked once on a machine'
complete -c host -n "__fish_host_using_subcommand batch" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand batch" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand batch" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c host -n "__fish_host_using_subcommand merge" -s o -l out -d 'Folder for the tables [default: DIR]' -r -F
complete -c host -n "__fish_host_using_subcommand merge" -l partial -d 'Merge what is there, although cases are missing'
complete -c host -n "__fish_host_using_subcommand merge" -l json -d 'Print the summary as one line of JSON'
complete -c host -n "__fish_host_using_subcommand merge" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand merge" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand merge" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c host -n "__fish_host_using_subcommand train" -s p -l plugin -d 'Plugin to train, by name or path' -r
complete -c host -n "__fish_host_using_subcommand train" -l data -d 'Table of labelled scans: columns case, image (or image.VIEW), one per label; optional patient, group, mask, point, split, weight.LABEL' -r -F
complete -c host -n "__fish_host_using_subcommand train" -l val -d 'Table of validation cases [default: the split column of --data, else a fifth of the patients]' -r -F
complete -c host -n "__fish_host_using_subcommand train" -l test -d 'Table of test cases, used neither to train nor to choose the epoch: the best epoch\'s weights score them into test_predictions.csv' -r -F
complete -c host -n "__fish_host_using_subcommand train" -l folds -d 'Cross-validate: split the patients into K folds and train K times, each fold validating once; writes a folder fold-N for each, predictions.csv for all cases, and the weights of all folds as an ensemble' -r
complete -c host -n "__fish_host_using_subcommand train" -l fold -d 'Train fold I alone, counted from 0, into its folder; other processes train the others, then --gather' -r
complete -c host -n "__fish_host_using_subcommand train" -l folds-by -d 'What a fold keeps together: all scans of a patient, or of a group (column `group`: scanner, site) too, so that each fold validates on groups that it has not seen' -r -f -a "patient\t'All scans of a patient'
group\t'All scans of a group, and of a patient'"
complete -c host -n "__fish_host_using_subcommand train" -l val-fraction -d 'Share of the patients that validate where no split is given' -r
complete -c host -n "__fish_host_using_subcommand train" -l label -d 'Column of the table that has a label of the plugin, where it has another name (of classes: the name in the column `class`)' -r
complete -c host -n "__fish_host_using_subcommand train" -l array-spacing -d 'Distance between voxels of a NumPy archive (FILE.npz:SPLIT) along its axes D, H, W in mm [default: unknown, taken as 1]' -r
complete -c host -n "__fish_host_using_subcommand train" -l array-axes -d 'Where the axes D, H, W of a NumPy archive run to, for example SPL [default: unknown, taken as SAR]' -r
complete -c host -n "__fish_host_using_subcommand train" -l fusion -d 'Pooling over the slices, instead of the plugin\'s; label_queries is attention with a query per label' -r -f -a "attention\t''
mean\t''
median\t''
max\t''
lstm\t''
transformer\t''
label_queries\t''"
complete -c host -n "__fish_host_using_subcommand train" -l class-tokens-only -d 'Give the head class tokens alone, as in the paper: a head that reads patch tokens does without them' -r -f -a "true\t''
false\t''"
complete -c host -n "__fish_host_using_subcommand train" -l decoder -d 'Segmentation decoder, instead of the plugin\'s: token decodes each patch alone, volume decodes in 3D' -r -f -a "token\t''
volume\t''"
complete -c host -n "__fish_host_using_subcommand train" -l adapter -d 'Adapter: none leaves the backbone frozen; lora is the plugin\'s low-rank adapter, or the paper\'s if it has none' -r -f -a "none\t''
lora\t''"
complete -c host -n "__fish_host_using_subcommand train" -l rank -d 'Rank of the adapter; the scale alpha / rank stays the same unless --alpha is given' -r
complete -c host -n "__fish_host_using_subcommand train" -l alpha -d 'Alpha of the adapter' -r
complete -c host -n "__fish_host_using_subcommand train" -l first-block -d 'First adapted block; 0 also adapts the patch embedding' -r
complete -c host -n "__fish_host_using_subcommand train" -l adjacent-mm -d 'Slices before and behind each slice, this many mm away, as its channels; 0: the manifest\'s windows' -r
complete -c host -n "__fish_host_using_subcommand train" -l mask-features -d 'What the head is told of the mask: scalars, cover, both with a comma between, or none' -r -f -a "scalars\t''
cover\t''
none\t''"
complete -c host -n "__fish_host_using_subcommand train" -l size-mm -d 'Length of the region around mask or point, mm: one for a cube, or three, left to right, back to front, feet to head' -r
complete -c host -n "__fish_host_using_subcommand train" -l loss -d 'Loss, instead of the manifest\'s' -r -f -a "focal\t''
bce\t''
cross_entropy\t''
mse\t''"
complete -c host -n "__fish_host_using_subcommand train" -l focal-gamma -d 'Exponent of the focal loss' -r
complete -c host -n "__fish_host_using_subcommand train" -l focal-alpha -d 'Weight of the positive class in the focal loss, 0 to 1' -r
complete -c host -n "__fish_host_using_subcommand train" -l class-weights -d 'Loss weight of each label or class, separated by commas' -r
complete -c host -n "__fish_host_using_subcommand train" -l epochs -d 'Passes over the training cases' -r
complete -c host -n "__fish_host_using_subcommand train" -l patience -d 'Stop after this many epochs without a better validation AUROC [0: never]' -r
complete -c host -n "__fish_host_using_subcommand train" -l batch -d 'Cases per step' -r
complete -c host -n "__fish_host_using_subcommand train" -l lr -d 'Peak learning rate of the adapter' -r
complete -c host -n "__fish_host_using_subcommand train" -l head-lr -d 'Peak learning rate of the head and the segmentation decoder' -r
complete -c host -n "__fish_host_using_subcommand train" -l warmup -d 'Share of the steps in which the learning rates rise' -r
complete -c host -n "__fish_host_using_subcommand train" -l weight-decay -d 'Weight decay of the adapter' -r
complete -c host -n "__fish_host_using_subcommand train" -l head-weight-decay -d 'Weight decay of the head and the segmentation decoder' -r
complete -c host -n "__fish_host_using_subcommand train" -l lambda -d 'Weight of the segmentation loss on cases with a mask' -r
complete -c host -n "__fish_host_using_subcommand train" -l clip -d 'Largest gradient norm of a step; larger gradients are scaled down to it [0: no limit]' -r
complete -c host -n "__fish_host_using_subcommand train" -l augment -d 'Augmentation of the training cases; full is the paper\'s recipe, in 3D' -r -f -a "none\t'No augmentation'
flips\t'Mirrored copies'
full\t'Mirrored copies, rotation, zoom, shift, noise, blur, brightness, contrast, resolution, gamma'"
complete -c host -n "__fish_host_using_subcommand train" -l augmentations-per-case -d 'Variants of each training case, the unchanged case among them; their features are cached' -r
complete -c host -n "__fish_host_using_subcommand train" -l seed -d 'Seed of initialisation, order, split and augmentation' -r
complete -c host -n "__fish_host_using_subcommand train" -l sweep -d 'Train once for every combination of the options in the file\'s [grid]; sweep.csv lists all runs' -r -F
complete -c host -n "__fish_host_using_subcommand train" -l point -d 'Train combination I of --sweep alone, counted from 0; other processes train the others, then --gather' -r
complete -c host -n "__fish_host_using_subcommand train" -l max-memory -d 'Most memory for the whole process, for example 4G: to stay below it, training recomputes activations and processes slices in groups' -r
complete -c host -n "__fish_host_using_subcommand train" -l cache-size -d 'Most disk space for cached features, GiB; 0 caches none' -r
complete -c host -n "__fish_host_using_subcommand train" -l cache -d 'Folder for cached features [default: cache/prefix in $ANYMC3D_HOME]' -r -F
complete -c host -n "__fish_host_using_subcommand train" -l precision -d 'Number format of the matrix products; auto is bf16 where the device supports it, else f32' -r -f -a "auto\t''
f32\t''
bf16\t''"
complete -c host -n "__fish_host_using_subcommand train" -l backbone -d 'Backbone, by name or folder [default: dinov2-small]' -r
complete -c host -n "__fish_host_using_subcommand train" -l device -d 'Device that computes: cpu, cuda:N, or auto (the first GPU that this build can use, else the processor)' -r
complete -c host -n "__fish_host_using_subcommand train" -l threads -d 'Number of threads that compute [default: one per core]' -r
complete -c host -n "__fish_host_using_subcommand train" -s o -l out -d 'Folder for weights, model card, metrics.csv, predictions.csv, TensorBoard\'s events and training.json' -r -F
complete -c host -n "__fish_host_using_subcommand train" -l intended-use -d 'What these weights may be used for, in a sentence; it stands in every result in the place of the plugin\'s sentence' -r
complete -c host -n "__fish_host_using_subcommand train" -l start -d 'Weights to start from, or a part of them, as `host weights import` writes them of an adapter; what they lack is drawn' -r -F
complete -c host -n "__fish_host_using_subcommand train" -l gather -d 'Train nothing: of the folds (with --folds K) or combinations (with --sweep) that processes trained into DIR, write the tables that one process would have written' -r -F
complete -c host -n "__fish_host_using_subcommand train" -l unchecked -d 'Do not open every scan and mask before the first step (`host doctor --data` checks them too)'
complete -c host -n "__fish_host_using_subcommand train" -l micro-ct -d 'Accept voxels from 0.0001 mm (micro-CT); without this option the host refuses voxels below 0.01 mm. It always refuses voxels above 100 mm, an axis more than 1000 times as coarse as another, and a field of view above 5 m'
complete -c host -n "__fish_host_using_subcommand train" -l accept-licence -d 'Accept the licence of the backbone; recorded in $ANYMC3D_HOME, so it is asked once on a machine'
complete -c host -n "__fish_host_using_subcommand train" -l resume -d 'Continue the run in --out after its last complete epoch'
complete -c host -n "__fish_host_using_subcommand train" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand train" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand train" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c host -n "__fish_host_using_subcommand eval" -s p -l plugin -d 'Plugin that predicts the cases of --data, by name or path' -r
complete -c host -n "__fish_host_using_subcommand eval" -l weights -d 'Trained weights; several, separated by commas, are an ensemble whose logits are averaged [default: the file beside the library, else the installed one]' -r -F
complete -c host -n "__fish_host_using_subcommand eval" -l data -d 'Table of labelled scans: columns case, image (or image.VIEW), one per label; optional patient, split' -r -F
complete -c host -n "__fish_host_using_subcommand eval" -l label -d 'Column of the table that has a label of the plugin, where it has another name (of classes: the name in the column `class`)' -r
complete -c host -n "__fish_host_using_subcommand eval" -l split -d 'Use only the cases of this split, as the table\'s column `split` says' -r -f -a "train\t''
val\t''
test\t''"
complete -c host -n "__fish_host_using_subcommand eval" -l predictions -d 'Scores of any model, instead of a plugin: columns case, LABEL, p_LABEL (classes: p_LABEL.CLASS); optional patient' -r -F
complete -c host -n "__fish_host_using_subcommand eval" -l columns -d 'What columns of --predictions are called: ROLE=COLUMN, roles case, patient, fold, truth, score' -r
complete -c host -n "__fish_host_using_subcommand eval" -l compare -d 'Test whether two models\' AUROCs differ on the same cases' -r -F
complete -c host -n "__fish_host_using_subcommand eval" -s o -l out -d 'Folder for metrics.json, predictions.csv and the charts' -r -F
complete -c host -n "__fish_host_using_subcommand eval" -l threshold -d 'A label is positive at p >= T; for one label or for all [default: stored with the weights, else 0.5]' -r
complete -c host -n "__fish_host_using_subcommand eval" -l bootstrap -d 'Bootstrap samples (of patients) for the 95 % intervals; 0 leaves the intervals out' -r
complete -c host -n "__fish_host_using_subcommand eval" -l seed -d 'Seed of the bootstrap' -r
complete -c host -n "__fish_host_using_subcommand eval" -l calibrate -d 'Fit temperatures and thresholds on these (validation) cases; write a copy of the weights that has them to FILE' -r -F
complete -c host -n "__fish_host_using_subcommand eval" -l precision -d 'Number format of the matrix products; auto is bf16 where the device supports it, else f32' -r -f -a "auto\t''
f32\t''
bf16\t''"
complete -c host -n "__fish_host_using_subcommand eval" -l array-spacing -d 'Distance between voxels of a NumPy archive (FILE.npz:SPLIT) along its axes D, H, W in mm [default: unknown, taken as 1]' -r
complete -c host -n "__fish_host_using_subcommand eval" -l array-axes -d 'Where the axes D, H, W of a NumPy archive run to, for example SPL [default: unknown, taken as SAR]' -r
complete -c host -n "__fish_host_using_subcommand eval" -l backbone -d 'Backbone, by name or folder [default: dinov2-small]' -r
complete -c host -n "__fish_host_using_subcommand eval" -l device -d 'Device that computes: cpu, cuda:N, or auto (the first GPU that this build can use, else the processor)' -r
complete -c host -n "__fish_host_using_subcommand eval" -l threads -d 'Number of threads that compute [default: one per core]' -r
complete -c host -n "__fish_host_using_subcommand eval" -l json -d 'Print metrics.json as one line (with --compare: the tests)'
complete -c host -n "__fish_host_using_subcommand eval" -l micro-ct -d 'Accept voxels from 0.0001 mm (micro-CT); without this option the host refuses voxels below 0.01 mm. It always refuses voxels above 100 mm, an axis more than 1000 times as coarse as another, and a field of view above 5 m'
complete -c host -n "__fish_host_using_subcommand eval" -l accept-licence -d 'Accept the licence of the backbone; recorded in $ANYMC3D_HOME, so it is asked once on a machine'
complete -c host -n "__fish_host_using_subcommand eval" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand eval" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand eval" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c host -n "__fish_host_using_subcommand embed" -s o -l out -d 'Output file (.safetensors, f32)' -r -F
complete -c host -n "__fish_host_using_subcommand embed" -s p -l plugin -d 'Plugin whose preprocessing is used, and whose adapter if it has weights' -r
complete -c host -n "__fish_host_using_subcommand embed" -l view -d 'View of the plugin [default: the first]' -r
complete -c host -n "__fish_host_using_subcommand embed" -l weights -d 'Weights of the plugin [default: those that `host run` finds]' -r -F
complete -c host -n "__fish_host_using_subcommand embed" -l peft -d 'Folder of a LoRA adapter of Hugging Face\'s peft, instead of the plugin\'s adapter' -r -F
complete -c host -n "__fish_host_using_subcommand embed" -l precision -d 'Number format of the matrix products; auto is f32 here, because features are compared across machines' -r -f -a "auto\t''
f32\t''
bf16\t''"
complete -c host -n "__fish_host_using_subcommand embed" -l mask -d 'Mask of the finding, 1 inside, on the scan\'s grid: plugins with region = "mask" look there. For one case; a table has a column `mask`' -r -F
complete -c host -n "__fish_host_using_subcommand embed" -l point -d 'A point in the finding, RAS mm: plugins with region = "point" look there. For one case; a table has a column `point`' -r
complete -c host -n "__fish_host_using_subcommand embed" -l array-spacing -d 'Distance between voxels of a NumPy archive (FILE.npz:SPLIT) along its axes D, H, W in mm [default: unknown, taken as 1]' -r
complete -c host -n "__fish_host_using_subcommand embed" -l array-axes -d 'Where the axes D, H, W of a NumPy archive run to, for example SPL [default: unknown, taken as SAR]' -r
complete -c host -n "__fish_host_using_subcommand embed" -l backbone -d 'Backbone, by name or folder [default: dinov2-small]' -r
complete -c host -n "__fish_host_using_subcommand embed" -l device -d 'Device that computes: cpu, cuda:N, or auto (the first GPU that this build can use, else the processor)' -r
complete -c host -n "__fish_host_using_subcommand embed" -l threads -d 'Number of threads that compute [default: one per core]' -r
complete -c host -n "__fish_host_using_subcommand embed" -l micro-ct -d 'Accept voxels from 0.0001 mm (micro-CT); without this option the host refuses voxels below 0.01 mm. It always refuses voxels above 100 mm, an axis more than 1000 times as coarse as another, and a field of view above 5 m'
complete -c host -n "__fish_host_using_subcommand embed" -l accept-licence -d 'Accept the licence of the backbone; recorded in $ANYMC3D_HOME, so it is asked once on a machine'
complete -c host -n "__fish_host_using_subcommand embed" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand embed" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand embed" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c host -n "__fish_host_using_subcommand doctor" -l data -d 'Data table: every scan and mask in it is opened' -r -F
complete -c host -n "__fish_host_using_subcommand doctor" -s p -l plugin -d 'Plugin whose labels and views the table is for [default: read off the table\'s header]; with DICOM the plugins that its series are to fit [default: all that are found]' -r
complete -c host -n "__fish_host_using_subcommand doctor" -l label -d 'Column of the table that has a label of the plugin, where it has another name (of classes: the name in the column `class`)' -r
complete -c host -n "__fish_host_using_subcommand doctor" -l array-spacing -d 'Distance between voxels of a NumPy archive (FILE.npz:SPLIT) along its axes D, H, W in mm [default: unknown, taken as 1]' -r
complete -c host -n "__fish_host_using_subcommand doctor" -l array-axes -d 'Where the axes D, H, W of a NumPy archive run to, for example SPL [default: unknown, taken as SAR]' -r
complete -c host -n "__fish_host_using_subcommand doctor" -l keep-identity -d 'Show descriptions, UIDs, PatientIDs and file names of DICOM too'
complete -c host -n "__fish_host_using_subcommand doctor" -l micro-ct -d 'Accept voxels from 0.0001 mm (micro-CT); without this option the host refuses voxels below 0.01 mm. It always refuses voxels above 100 mm, an axis more than 1000 times as coarse as another, and a field of view above 5 m'
complete -c host -n "__fish_host_using_subcommand doctor" -l json -d 'Print one JSON object'
complete -c host -n "__fish_host_using_subcommand doctor" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand doctor" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand phantom" -s n -l count -d 'Number of cases' -r
complete -c host -n "__fish_host_using_subcommand phantom" -l seed -d 'Seed; another seed gives other scans' -r
complete -c host -n "__fish_host_using_subcommand phantom" -l start -d 'Index of the first case' -r
complete -c host -n "__fish_host_using_subcommand phantom" -l base -d 'For liver_injury: put the injuries into an organ of this real CT' -r -F
complete -c host -n "__fish_host_using_subcommand phantom" -l organ -d 'Mask of the organ, on the grid of the CT' -r -F
complete -c host -n "__fish_host_using_subcommand phantom" -s o -l out -d 'Output folder' -r -F
complete -c host -n "__fish_host_using_subcommand phantom" -l threads -d 'Number of threads that compute [default: one per core]' -r
complete -c host -n "__fish_host_using_subcommand phantom" -l force -d 'Overwrite files that exist'
complete -c host -n "__fish_host_using_subcommand phantom" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand phantom" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand phantom" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c host -n "__fish_host_using_subcommand plugin; and not __fish_seen_subcommand_from new list inspect check adopt-weights golden" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand plugin; and not __fish_seen_subcommand_from new list inspect check adopt-weights golden" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand plugin; and not __fish_seen_subcommand_from new list inspect check adopt-weights golden" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand plugin; and not __fish_seen_subcommand_from new list inspect check adopt-weights golden" -f -a "new" -d 'Write a new task: a crate with manifest, code, tests, model card and CI that builds without a change'
complete -c host -n "__fish_host_using_subcommand plugin; and not __fish_seen_subcommand_from new list inspect check adopt-weights golden" -f -a "list" -d 'List the plugins that the host finds by name'
complete -c host -n "__fish_host_using_subcommand plugin; and not __fish_seen_subcommand_from new list inspect check adopt-weights golden" -f -a "inspect" -d 'Show a plugin\'s manifest, digest and weights; the host runs none of its code'
complete -c host -n "__fish_host_using_subcommand plugin; and not __fish_seen_subcommand_from new list inspect check adopt-weights golden" -f -a "check" -d 'Try a plugin before it is shipped: shapes, gradients, repeats, leaks, crashes'
complete -c host -n "__fish_host_using_subcommand plugin; and not __fish_seen_subcommand_from new list inspect check adopt-weights golden" -f -a "adopt-weights" -d 'Give a plugin\'s weights to its new version, where parameters, labels and preprocessing are the same'
complete -c host -n "__fish_host_using_subcommand plugin; and not __fish_seen_subcommand_from new list inspect check adopt-weights golden" -f -a "golden" -d 'Store a scan with the logits it gives here, so that other machines can compare; or compare'
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from new" -l views -d 'Orientations (axial, coronal, sagittal, native) of one scan, or names of sequences with a scan each (t1, t2, …)' -r
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from new" -l labels -d 'Labels, or the classes of a multiclass task [default: NAME]' -r
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from new" -l kind -d 'One label, one class per case, or any number of labels [default: binary for one label, multilabel for several]' -r -f -a "binary\t''
multiclass\t''
multilabel\t''"
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from new" -l modality -d 'Modality of the scans [default: MR if a view has the name of an MR sequence, else CT]' -r -f -a "CT\t''
MR\t''
PT\t''
any\t''"
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from new" -l plugin-api -d 'Dependency on plugin-api: its folder, or a version in a package registry [default: a copy that the host contains]' -r
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from new" -l segmentation -d 'Add pixel supervision: masks in training teach where to look'
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from new" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from new" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from new" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from list" -l json -d 'Print one line of JSON per plugin'
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from inspect" -l json -d 'Print one JSON object'
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from inspect" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from inspect" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from inspect" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from check" -l weights -d 'Weights to compare with what the plugin asks for [default: those that `host run` finds]' -r -F
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from check" -l backbone -d 'Backbone, by name or folder [default: dinov2-small]' -r
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from check" -l time-limit -d 'Longest time for one check' -r
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from check" -l max-memory -d 'Most memory (address space) for its process, for example 8G [default: 80 % of the machine\'s]' -r
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from check" -l json -d 'Print one JSON object'
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from check" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from check" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from adopt-weights" -s p -l plugin -d 'The new version, by name or path' -r
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from adopt-weights" -l weights -d 'Weights of the version before' -r -F
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from adopt-weights" -s o -l out -d 'File for the weights of the new version' -r -F
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from adopt-weights" -l trained-with -d 'plugin.toml that the weights were trained with, for weights of a host that did not record it' -r -F
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from adopt-weights" -l cases -d 'Table that the weights were trained on (the --data of that training), for weights of a host that did not record the cases: every scan is opened' -r -F
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from adopt-weights" -l val -d 'Table of the validation cases, where that training had one (--val)' -r -F
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from adopt-weights" -l backbone -d 'Backbone, by name or folder [default: dinov2-small]' -r
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from adopt-weights" -l device -d 'Device that computes: cpu, cuda:N, or auto (the first GPU that this build can use, else the processor)' -r
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from adopt-weights" -l threads -d 'Number of threads that compute [default: one per core]' -r
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from adopt-weights" -l accept-licence -d 'Accept the licence of the backbone; recorded in $ANYMC3D_HOME, so it is asked once on a machine'
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from adopt-weights" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from adopt-weights" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from adopt-weights" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from golden" -s p -l plugin -d 'Plugin, by name or path' -r
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from golden" -l weights -d 'Trained weights [default: the file beside the library, else the installed one]' -r -F
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from golden" -l view -d 'Scan of view NAME' -r
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from golden" -s o -l out -d 'Folder for the golden case' -r -F
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from golden" -l tolerance -d 'Largest difference allowed between another machine\'s logits and these' -r
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from golden" -l check -d 'Run the golden cases of a folder and compare; exit code 1 if a case differs' -r -F
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from golden" -l mask -d 'Mask of the finding, 1 inside, on the scan\'s grid: plugins with region = "mask" look there. For one case; a table has a column `mask`' -r -F
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from golden" -l point -d 'A point in the finding, RAS mm: plugins with region = "point" look there. For one case; a table has a column `point`' -r
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from golden" -l array-spacing -d 'Distance between voxels of a NumPy archive (FILE.npz:SPLIT) along its axes D, H, W in mm [default: unknown, taken as 1]' -r
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from golden" -l array-axes -d 'Where the axes D, H, W of a NumPy archive run to, for example SPL [default: unknown, taken as SAR]' -r
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from golden" -l backbone -d 'Backbone, by name or folder [default: dinov2-small]' -r
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from golden" -l device -d 'Device that computes: cpu, cuda:N, or auto (the first GPU that this build can use, else the processor)' -r
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from golden" -l threads -d 'Number of threads that compute [default: one per core]' -r
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from golden" -l json -d 'Print one JSON object'
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from golden" -l micro-ct -d 'Accept voxels from 0.0001 mm (micro-CT); without this option the host refuses voxels below 0.01 mm. It always refuses voxels above 100 mm, an axis more than 1000 times as coarse as another, and a field of view above 5 m'
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from golden" -l accept-licence -d 'Accept the licence of the backbone; recorded in $ANYMC3D_HOME, so it is asked once on a machine'
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from golden" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from golden" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand plugin; and __fish_seen_subcommand_from golden" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand registry; and not __fish_seen_subcommand_from search install update verify remove mirror trust keygen init pack publish yank renew" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand registry; and not __fish_seen_subcommand_from search install update verify remove mirror trust keygen init pack publish yank renew" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand registry; and not __fish_seen_subcommand_from search install update verify remove mirror trust keygen init pack publish yank renew" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand registry; and not __fish_seen_subcommand_from search install update verify remove mirror trust keygen init pack publish yank renew" -f -a "search" -d 'List packages whose name, summary, labels and publisher contain all search terms'
complete -c host -n "__fish_host_using_subcommand registry; and not __fish_seen_subcommand_from search install update verify remove mirror trust keygen init pack publish yank renew" -f -a "install" -d 'Install packages: verify them, run their golden cases, then move them into place'
complete -c host -n "__fish_host_using_subcommand registry; and not __fish_seen_subcommand_from search install update verify remove mirror trust keygen init pack publish yank renew" -f -a "update" -d 'Install newer versions, update the lock file, and learn which versions were withdrawn'
complete -c host -n "__fish_host_using_subcommand registry; and not __fish_seen_subcommand_from search install update verify remove mirror trust keygen init pack publish yank renew" -f -a "verify" -d 'Hash every installed file again and verify every signature; exit code 3 if anything differs'
complete -c host -n "__fish_host_using_subcommand registry; and not __fish_seen_subcommand_from search install update verify remove mirror trust keygen init pack publish yank renew" -f -a "remove" -d 'Remove an installed version'
complete -c host -n "__fish_host_using_subcommand registry; and not __fish_seen_subcommand_from search install update verify remove mirror trust keygen init pack publish yank renew" -f -a "mirror" -d 'Copy packages and the signed index to another store; copying needs no key, and clients verify the copy as usual'
complete -c host -n "__fish_host_using_subcommand registry; and not __fish_seen_subcommand_from search install update verify remove mirror trust keygen init pack publish yank renew" -f -a "trust" -d 'List, add and remove trusted keys: of publishers (packages) and of registries (indexes)'
complete -c host -n "__fish_host_using_subcommand registry; and not __fish_seen_subcommand_from search install update verify remove mirror trust keygen init pack publish yank renew" -f -a "keygen" -d 'Make a key pair that signs packages or an index'
complete -c host -n "__fish_host_using_subcommand registry; and not __fish_seen_subcommand_from search install update verify remove mirror trust keygen init pack publish yank renew" -f -a "init" -d 'Make an empty registry in a folder, an OCI registry or an object store'
complete -c host -n "__fish_host_using_subcommand registry; and not __fish_seen_subcommand_from search install update verify remove mirror trust keygen init pack publish yank renew" -f -a "pack" -d 'Pack a plugin\'s parts into one signed archive, after running its golden cases'
complete -c host -n "__fish_host_using_subcommand registry; and not __fish_seen_subcommand_from search install update verify remove mirror trust keygen init pack publish yank renew" -f -a "publish" -d 'Publish a package: pack and publish a plugin, or publish an archive that somebody packed'
complete -c host -n "__fish_host_using_subcommand registry; and not __fish_seen_subcommand_from search install update verify remove mirror trust keygen init pack publish yank renew" -f -a "yank" -d 'Withdraw a version, for all targets'
complete -c host -n "__fish_host_using_subcommand registry; and not __fish_seen_subcommand_from search install update verify remove mirror trust keygen init pack publish yank renew" -f -a "renew" -d 'Sign the index again before it expires, or replace an old key by a new key'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from search" -l store -d 'The registry: a folder, https://…, oci://host/path [default: $ANYMC3D_STORE, else a folder in $ANYMC3D_HOME]' -r
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from search" -l versions -d 'List every version and target, with ABI, backbone and withdrawal'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from search" -l json -d 'Print one line of JSON per package (or version)'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from search" -l trust-on-first-use -d 'If no key of a registry or publisher is known, trust the key that it shows now'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from search" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from search" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from search" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from install" -l lock -d 'Record what is installed in a lock file, by digest [default file: anymc3d.lock]. The host reads and updates a lock file that exists even without this option' -r -F
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from install" -l store -d 'The registry: a folder, https://…, oci://host/path [default: $ANYMC3D_STORE, else a folder in $ANYMC3D_HOME]' -r
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from install" -l accept-licence -d 'Accept the licences of the backbones that the packages\' weights derive from'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from install" -l unpin -d 'Remove the lock file\'s pins of these packages. Without this option a package that was installed as NAME@VERSION stays at that version'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from install" -l trust-on-first-use -d 'If no key of a registry or publisher is known, trust the key that it shows now'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from install" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from install" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from install" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from update" -l lock -d 'Record what is installed in a lock file, by digest [default file: anymc3d.lock]. The host reads and updates a lock file that exists even without this option' -r -F
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from update" -l store -d 'The registry: a folder, https://…, oci://host/path [default: $ANYMC3D_STORE, else a folder in $ANYMC3D_HOME]' -r
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from update" -l unpin -d 'Remove the lock file\'s pins of these packages. Without this option a package that was installed as NAME@VERSION stays at that version'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from update" -l trust-on-first-use -d 'If no key of a registry or publisher is known, trust the key that it shows now'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from update" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from update" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from update" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from verify" -l store -d 'The registry: a folder, https://…, oci://host/path [default: $ANYMC3D_STORE, else a folder in $ANYMC3D_HOME]' -r
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from verify" -l repair -d 'Download files that differ again'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from verify" -l json -d 'Print one line of JSON per package'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from verify" -l trust-on-first-use -d 'If no key of a registry or publisher is known, trust the key that it shows now'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from verify" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from verify" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from verify" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from remove" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from remove" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from mirror" -l to -d 'Target store: a folder or oci://host/path' -r
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from mirror" -l target -d 'Only packages for this target, for example x86_64-linux [default: all]' -r
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from mirror" -l store -d 'The registry: a folder, https://…, oci://host/path [default: $ANYMC3D_STORE, else a folder in $ANYMC3D_HOME]' -r
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from mirror" -l trust-on-first-use -d 'If no key of a registry or publisher is known, trust the key that it shows now'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from mirror" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from mirror" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from mirror" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from trust" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from trust" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from trust" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from trust" -f -a "add" -d 'Trust a key'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from trust" -f -a "list" -d 'List trusted keys'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from trust" -f -a "remove" -d 'Remove a key; packages signed with it no longer run'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from keygen" -l name -d 'Owner of the key: the publisher\'s name, or the registry\'s' -r
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from keygen" -s o -l out -d 'Output: FILE.key and FILE.pub' -r -F
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from keygen" -l rotate -d 'Key that the new key replaces; also writes FILE.rotation, for `host registry renew`' -r -F
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from keygen" -l no-password -d 'Do not encrypt the secret key [default: encrypt it with $ANYMC3D_KEY_PASSWORD]'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from keygen" -l registry -d 'The rotated key signs an index, not packages'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from keygen" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from keygen" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from keygen" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from init" -l name -d 'Name of the registry; clients trust its index key under this name' -r
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from init" -l index-key -d 'Secret key that signs the index' -r -F
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from init" -l valid-days -d 'Days that the index is valid; sign it again before it expires with `host registry renew`' -r
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from init" -l store -d 'The registry: a folder, https://…, oci://host/path [default: $ANYMC3D_STORE, else a folder in $ANYMC3D_HOME]' -r
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from init" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from init" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from init" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from pack" -s p -l plugin -d 'Library of the plugin, by path or name' -r
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from pack" -l from -d 'Folder of all parts that no option below gives: plugin.toml, NAME.safetensors, README.md, LICENSE, golden/ [default: plugins/NAME, if it exists]' -r -F
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from pack" -l weights -d 'Trained weights' -r -F
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from pack" -l card -d 'Model card' -r -F
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from pack" -l license -d 'Text of the licence [default: LICENSE beside the model card, or in the working folder]' -r -F
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from pack" -l golden -d 'Folder of golden cases, made by `host plugin golden`' -r -F
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from pack" -l publisher -d 'Name of the publisher; clients trust its key under this name' -r
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from pack" -l key -d 'Secret key of the publisher' -r -F
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from pack" -s o -l out -d 'Folder for the archive' -r -F
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from pack" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from pack" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from pack" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from publish" -s p -l plugin -d 'Library of the plugin, by path or name' -r
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from publish" -l from -d 'Folder of all parts that no option below gives: plugin.toml, NAME.safetensors, README.md, LICENSE, golden/ [default: plugins/NAME, if it exists]' -r -F
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from publish" -l weights -d 'Trained weights' -r -F
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from publish" -l card -d 'Model card' -r -F
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from publish" -l license -d 'Text of the licence [default: LICENSE beside the model card, or in the working folder]' -r -F
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from publish" -l golden -d 'Folder of golden cases, made by `host plugin golden`' -r -F
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from publish" -l publisher -d 'Name of the publisher; clients trust its key under this name' -r
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from publish" -l key -d 'Secret key of the publisher' -r -F
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from publish" -l index-key -d 'Secret key that signs the index' -r -F
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from publish" -l valid-days -d 'Days that the index is valid; sign it again before it expires with `host registry renew`' -r
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from publish" -l store -d 'The registry: a folder, https://…, oci://host/path [default: $ANYMC3D_STORE, else a folder in $ANYMC3D_HOME]' -r
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from publish" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from publish" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from publish" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from yank" -l reason -d 'Reason of the withdrawal' -r -f -a "safety\t'The version may harm: it no longer runs'
accuracy\t'The version is less accurate than was published'
licence\t'The licence forbids its use'"
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from yank" -l detail -d 'Message for people who run the version: what is wrong, what to do' -r
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from yank" -l index-key -d 'Secret key that signs the index' -r -F
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from yank" -l valid-days -d 'Days that the index is valid; sign it again before it expires with `host registry renew`' -r
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from yank" -l store -d 'The registry: a folder, https://…, oci://host/path [default: $ANYMC3D_STORE, else a folder in $ANYMC3D_HOME]' -r
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from yank" -l undo -d 'Undo the withdrawal'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from yank" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from yank" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from yank" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from renew" -l rotation -d 'Rotation file that `host registry keygen --rotate` wrote' -r -F
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from renew" -l index-key -d 'Secret key that signs the index' -r -F
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from renew" -l valid-days -d 'Days that the index is valid; sign it again before it expires with `host registry renew`' -r
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from renew" -l store -d 'The registry: a folder, https://…, oci://host/path [default: $ANYMC3D_STORE, else a folder in $ANYMC3D_HOME]' -r
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from renew" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from renew" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand registry; and __fish_seen_subcommand_from renew" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand backbone; and not __fish_seen_subcommand_from list inspect import pull verify remove" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand backbone; and not __fish_seen_subcommand_from list inspect import pull verify remove" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand backbone; and not __fish_seen_subcommand_from list inspect import pull verify remove" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand backbone; and not __fish_seen_subcommand_from list inspect import pull verify remove" -f -a "list" -d 'List the backbones that the host finds by name'
complete -c host -n "__fish_host_using_subcommand backbone; and not __fish_seen_subcommand_from list inspect import pull verify remove" -f -a "inspect" -d 'Show dimensions, normalisation and digests of a backbone'
complete -c host -n "__fish_host_using_subcommand backbone; and not __fish_seen_subcommand_from list inspect import pull verify remove" -f -a "import" -d 'Copy a backbone into $ANYMC3D_HOME: opened and tried first, with a card of source, licence and digests'
complete -c host -n "__fish_host_using_subcommand backbone; and not __fish_seen_subcommand_from list inspect import pull verify remove" -f -a "pull" -d 'Download a backbone from a Hugging Face style server, check its digests and import it'
complete -c host -n "__fish_host_using_subcommand backbone; and not __fish_seen_subcommand_from list inspect import pull verify remove" -f -a "verify" -d 'Check a backbone against its card: digests of all files, and the class token of a golden image'
complete -c host -n "__fish_host_using_subcommand backbone; and not __fish_seen_subcommand_from list inspect import pull verify remove" -f -a "remove" -d 'Remove a backbone that was imported or pulled'
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from list" -l json -d 'Print one line of JSON per backbone'
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from inspect" -l json -d 'Print one JSON object'
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from inspect" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from inspect" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from inspect" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from import" -l name -d 'Name by which the host finds it' -r
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from import" -l source -d 'Where it comes from, for the card [default: the path]' -r
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from import" -l licence -d 'Text of its licence, where the folder has none; it must be accepted before the backbone computes' -r -F
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from import" -l mean -d 'Mean of the three channels, where no file gives it' -r
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from import" -l std -d 'Deviation of the three channels, where no file gives it' -r
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from import" -l json -d 'Print the card as one line of JSON'
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from import" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from import" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from import" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from pull" -l name -d 'Name by which the host finds it' -r
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from pull" -l revision -d 'Branch, tag or commit' -r
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from pull" -l from -d 'Address of the server; a token is read from $ANYMC3D_HUB_TOKEN' -r
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from pull" -l json -d 'Print the card as one line of JSON'
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from pull" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from pull" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from pull" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from verify" -l json -d 'Print one JSON object'
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from verify" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from verify" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from verify" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from remove" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from remove" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand backbone; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand weights; and not __fish_seen_subcommand_from import export" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand weights; and not __fish_seen_subcommand_from import export" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand weights; and not __fish_seen_subcommand_from import export" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand weights; and not __fish_seen_subcommand_from import export" -f -a "import" -d 'Write an adapter of Hugging Face\'s peft, and a head, as a plugin\'s weights'
complete -c host -n "__fish_host_using_subcommand weights; and not __fish_seen_subcommand_from import export" -f -a "export" -d 'Write a plugin\'s adapter as a folder of Hugging Face\'s peft, and its head as head.safetensors'
complete -c host -n "__fish_host_using_subcommand weights; and __fish_seen_subcommand_from import" -s p -l plugin -d 'Plugin, by name or path' -r
complete -c host -n "__fish_host_using_subcommand weights; and __fish_seen_subcommand_from import" -l peft -d 'Folder of the adapter' -r -F
complete -c host -n "__fish_host_using_subcommand weights; and __fish_seen_subcommand_from import" -l head -d 'Tensors of the head (.safetensors), by the plugin\'s names, with or without `head.`' -r -F
complete -c host -n "__fish_host_using_subcommand weights; and __fish_seen_subcommand_from import" -s o -l out -d 'File for the weights' -r -F
complete -c host -n "__fish_host_using_subcommand weights; and __fish_seen_subcommand_from import" -l intended-use -d 'What these weights may be used for, in a sentence [default: the plugin\'s]' -r
complete -c host -n "__fish_host_using_subcommand weights; and __fish_seen_subcommand_from import" -l backbone -d 'Backbone, by name or folder [default: dinov2-small]' -r
complete -c host -n "__fish_host_using_subcommand weights; and __fish_seen_subcommand_from import" -l device -d 'Device that computes: cpu, cuda:N, or auto (the first GPU that this build can use, else the processor)' -r
complete -c host -n "__fish_host_using_subcommand weights; and __fish_seen_subcommand_from import" -l threads -d 'Number of threads that compute [default: one per core]' -r
complete -c host -n "__fish_host_using_subcommand weights; and __fish_seen_subcommand_from import" -l accept-licence -d 'Accept the licence of the backbone; recorded in $ANYMC3D_HOME, so it is asked once on a machine'
complete -c host -n "__fish_host_using_subcommand weights; and __fish_seen_subcommand_from import" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand weights; and __fish_seen_subcommand_from import" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand weights; and __fish_seen_subcommand_from import" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c host -n "__fish_host_using_subcommand weights; and __fish_seen_subcommand_from export" -s p -l plugin -d 'Plugin, by name or path' -r
complete -c host -n "__fish_host_using_subcommand weights; and __fish_seen_subcommand_from export" -l weights -d 'Trained weights [default: those that `host run` finds]' -r -F
complete -c host -n "__fish_host_using_subcommand weights; and __fish_seen_subcommand_from export" -s o -l out -d 'Folder for the adapter and the head' -r -F
complete -c host -n "__fish_host_using_subcommand weights; and __fish_seen_subcommand_from export" -l transformers -d 'Major version of transformers, which names the layers' -r
complete -c host -n "__fish_host_using_subcommand weights; and __fish_seen_subcommand_from export" -l backbone -d 'Backbone, by name or folder [default: dinov2-small]' -r
complete -c host -n "__fish_host_using_subcommand weights; and __fish_seen_subcommand_from export" -l device -d 'Device that computes: cpu, cuda:N, or auto (the first GPU that this build can use, else the processor)' -r
complete -c host -n "__fish_host_using_subcommand weights; and __fish_seen_subcommand_from export" -l threads -d 'Number of threads that compute [default: one per core]' -r
complete -c host -n "__fish_host_using_subcommand weights; and __fish_seen_subcommand_from export" -l accept-licence -d 'Accept the licence of the backbone; recorded in $ANYMC3D_HOME, so it is asked once on a machine'
complete -c host -n "__fish_host_using_subcommand weights; and __fish_seen_subcommand_from export" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand weights; and __fish_seen_subcommand_from export" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand weights; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c host -n "__fish_host_using_subcommand bench" -l slices -d 'Slices in a scan' -r
complete -c host -n "__fish_host_using_subcommand bench" -l size -d 'Side of a slice in pixels, a multiple of the patch size' -r
complete -c host -n "__fish_host_using_subcommand bench" -l tasks -d 'Tasks that share the backbone, for `many`' -r
complete -c host -n "__fish_host_using_subcommand bench" -s n -l repetitions -d 'Repetitions of each measure' -r
complete -c host -n "__fish_host_using_subcommand bench" -l pixels -d 'Slices from a file with `pixels` [S,3,H,W], already normalised, instead of noise' -r -F
complete -c host -n "__fish_host_using_subcommand bench" -s p -l plugin -d 'Plugin whose library `load` opens, each time in a new process' -r
complete -c host -n "__fish_host_using_subcommand bench" -l precision -d 'Number format of the matrix products; auto is bf16 where the processor supports it, else f32' -r -f -a "auto\t''
f32\t''
bf16\t''"
complete -c host -n "__fish_host_using_subcommand bench" -l backbone -d 'Backbone, by name or folder [default: dinov2-small]' -r
complete -c host -n "__fish_host_using_subcommand bench" -l device -d 'Device that computes: cpu, cuda:N, or auto (the first GPU that this build can use, else the processor)' -r
complete -c host -n "__fish_host_using_subcommand bench" -l threads -d 'Number of threads that compute [default: one per core]' -r
complete -c host -n "__fish_host_using_subcommand bench" -l stepwise -d 'Read the name of a measure from each line of standard input, run one repetition and print its times'
complete -c host -n "__fish_host_using_subcommand bench" -l json -d 'Print one line of JSON per measure'
complete -c host -n "__fish_host_using_subcommand bench" -l accept-licence -d 'Accept the licence of the backbone; recorded in $ANYMC3D_HOME, so it is asked once on a machine'
complete -c host -n "__fish_host_using_subcommand bench" -l one-load -d 'Load the plugin once, say when, and end: what `load` starts'
complete -c host -n "__fish_host_using_subcommand bench" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand bench" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand bench" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c host -n "__fish_host_using_subcommand self-test" -l backbone -d 'Backbone, by name or folder [default: dinov2-small]' -r
complete -c host -n "__fish_host_using_subcommand self-test" -l device -d 'Device that computes: cpu, cuda:N, or auto (the first GPU that this build can use, else the processor)' -r
complete -c host -n "__fish_host_using_subcommand self-test" -l threads -d 'Number of threads that compute [default: one per core]' -r
complete -c host -n "__fish_host_using_subcommand self-test" -l json -d 'Print one JSON object'
complete -c host -n "__fish_host_using_subcommand self-test" -l accept-licence -d 'Accept the licence of the backbone; recorded in $ANYMC3D_HOME, so it is asked once on a machine'
complete -c host -n "__fish_host_using_subcommand self-test" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand self-test" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand self-test" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c host -n "__fish_host_using_subcommand completions" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand completions" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand completions" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand man" -s o -l out -d 'Folder for the pages' -r -F
complete -c host -n "__fish_host_using_subcommand man" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand man" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand man" -s h -l help -d 'Print help'
complete -c host -n "__fish_host_using_subcommand worker" -s q -l quiet -d 'Print only results and errors: no progress, no notices'
complete -c host -n "__fish_host_using_subcommand worker" -s v -l verbose -d 'Print what the host does; give it twice for details'
complete -c host -n "__fish_host_using_subcommand worker" -s h -l help -d 'Print help'
