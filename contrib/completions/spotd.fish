# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_spotd_global_optspecs
    string join \n v/verbose h/help V/version
end

function __fish_spotd_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_spotd_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_spotd_using_subcommand
    set -l cmd (__fish_spotd_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c spotd -n "__fish_spotd_needs_command" -s v -l verbose -d 'Say more (-v: debug, -vv: trace); RUST_LOG overrides this'
complete -c spotd -n "__fish_spotd_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c spotd -n "__fish_spotd_needs_command" -s V -l version -d 'Print version'
complete -c spotd -n "__fish_spotd_needs_command" -f -a "run" -d 'Watch sources until stopped; keep flagged frames in the log, and publish them'
complete -c spotd -n "__fish_spotd_needs_command" -f -a "scan" -d 'Judge images, folders and videos; exit code 0: none flagged, 1: some flagged, 2: error'
complete -c spotd -n "__fish_spotd_needs_command" -f -a "check" -d 'Say whether configuration, model, each source, log folder, broker and webhooks would work'
complete -c spotd -n "__fish_spotd_needs_command" -f -a "log" -d 'List, filter and follow the flag log, or export an event with everything needed to check it'
complete -c spotd -n "__fish_spotd_needs_command" -f -a "verify" -d 'Check a flag log or an export: chain, evidence, signatures; exit code 0: intact, 1: not'
complete -c spotd -n "__fish_spotd_needs_command" -f -a "eval" -d 'Measure how well a detector ranks labelled pictures: AP, AUC, accuracy, calibration, robustness'
complete -c spotd -n "__fish_spotd_needs_command" -f -a "spectrum" -d 'Draw the mean log spectra of high-pass filtered pictures, real beside generated, set by set'
complete -c spotd -n "__fish_spotd_needs_command" -f -a "calibrate" -d 'Find threshold and temperature for one site from its own footage, for a stated rate of false alarms'
complete -c spotd -n "__fish_spotd_needs_command" -f -a "quantize" -d 'Make an int8 model from a float32 one, calibrated on pictures, a video or a camera, and say what that costs'
complete -c spotd -n "__fish_spotd_needs_command" -f -a "bench" -d 'Measure what this machine can do with a detector: ms per tile, each operator, or how many cameras it carries'
complete -c spotd -n "__fish_spotd_needs_command" -f -a "sources" -d 'List the cameras of this machine: lasting names, formats, sizes, rates'
complete -c spotd -n "__fish_spotd_needs_command" -f -a "completions" -d 'Print what a shell (bash, zsh, fish and others) needs to complete command lines'
complete -c spotd -n "__fish_spotd_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c spotd -n "__fish_spotd_using_subcommand run" -s c -l config -d 'Configuration file (TOML); see docs/CONFIG.md' -r -F
complete -c spotd -n "__fish_spotd_using_subcommand run" -s s -l source -d 'Watch this without a configuration file: /dev/video0, rtsp://..., a file, or a GStreamer pipeline, written pipeline:TEXT. May be given several times' -r
complete -c spotd -n "__fish_spotd_using_subcommand run" -l log-dir -d 'Folder of the flag log, with --source and --demo' -r -F
complete -c spotd -n "__fish_spotd_using_subcommand run" -l fps -d 'Frames per second to judge, with --source and --demo' -r
complete -c spotd -n "__fish_spotd_using_subcommand run" -l precision -d 'Precision to run the model in, instead of the configuration\'s: auto (int8 where the model is quantised), f32 or int8' -r
complete -c spotd -n "__fish_spotd_using_subcommand run" -l for-seconds -d 'End after this many seconds instead of running until stopped' -r
complete -c spotd -n "__fish_spotd_using_subcommand run" -l demo -d 'Watch the embedded demonstration: rendered scenes, untouched and resynthesised in turn'
complete -c spotd -n "__fish_spotd_using_subcommand run" -s v -l verbose -d 'Say more (-v: debug, -vv: trace); RUST_LOG overrides this'
complete -c spotd -n "__fish_spotd_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c spotd -n "__fish_spotd_using_subcommand run" -s V -l version -d 'Print version'
complete -c spotd -n "__fish_spotd_using_subcommand scan" -s m -l model -d 'Model (ONNX, its card beside it) instead of the built-in one' -r -F
complete -c spotd -n "__fish_spotd_using_subcommand scan" -l precision -d 'Precision to run the model in: auto (int8 where the model is quantised), f32 or int8' -r
complete -c spotd -n "__fish_spotd_using_subcommand scan" -l threshold -d 'Score (0..1) from which an input is synthetic, instead of the card\'s' -r
complete -c spotd -n "__fish_spotd_using_subcommand scan" -l max-tiles -d 'Judge at most so many tiles of a picture, those with the most detail' -r
complete -c spotd -n "__fish_spotd_using_subcommand scan" -l fps -d 'Frames per second to judge in a video' -r
complete -c spotd -n "__fish_spotd_using_subcommand scan" -l seconds -d 'Seconds to watch a live stream or camera; what has an end is read to its end' -r
complete -c spotd -n "__fish_spotd_using_subcommand scan" -s j -l jobs -d 'Inputs judged side by side; by default one per core' -r
complete -c spotd -n "__fish_spotd_using_subcommand scan" -l report -d 'Write a report to hand on: one HTML file with a summary, thumbnails sorted by score, a timeline for each video, settings, model card and the SHA-256 of every file' -r -F
complete -c spotd -n "__fish_spotd_using_subcommand scan" -l json -d 'Print one JSON object per line: path, score (0..1, 1 = synthetic), verdict, and more'
complete -c spotd -n "__fish_spotd_using_subcommand scan" -l resume -d 'Go on with a scan that was interrupted: what FILE.journal has already found is not judged again, unless the file, the model or a setting has changed'
complete -c spotd -n "__fish_spotd_using_subcommand scan" -s v -l verbose -d 'Say more (-v: debug, -vv: trace); RUST_LOG overrides this'
complete -c spotd -n "__fish_spotd_using_subcommand scan" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c spotd -n "__fish_spotd_using_subcommand scan" -s V -l version -d 'Print version'
complete -c spotd -n "__fish_spotd_using_subcommand check" -s c -l config -d 'Configuration file (TOML) to check; see docs/CONFIG.md' -r -F
complete -c spotd -n "__fish_spotd_using_subcommand check" -l precision -d 'Precision to try the model in, instead of the configuration\'s: auto (int8 where the model is quantised), f32 or int8' -r
complete -c spotd -n "__fish_spotd_using_subcommand check" -l timeout -d 'Seconds to wait for a source\'s first frame and for the broker; a webhook has its own' -r
complete -c spotd -n "__fish_spotd_using_subcommand check" -l json -d 'Print one JSON object per line instead of text'
complete -c spotd -n "__fish_spotd_using_subcommand check" -s v -l verbose -d 'Say more (-v: debug, -vv: trace); RUST_LOG overrides this'
complete -c spotd -n "__fish_spotd_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c spotd -n "__fish_spotd_using_subcommand check" -s V -l version -d 'Print version'
complete -c spotd -n "__fish_spotd_using_subcommand log; and not __fish_seen_subcommand_from export help" -s c -l config -d 'Configuration file that names the folder' -r -F
complete -c spotd -n "__fish_spotd_using_subcommand log; and not __fish_seen_subcommand_from export help" -l since -d 'Only records from this time on: 2026-11-24, 2026-11-24T09:00:00Z, or an age such as 90m, 2h, 3d' -r
complete -c spotd -n "__fish_spotd_using_subcommand log; and not __fish_seen_subcommand_from export help" -l source -d 'Only records of this source' -r
complete -c spotd -n "__fish_spotd_using_subcommand log; and not __fish_seen_subcommand_from export help" -l verdict -d 'Only records with this verdict: clear, unsure or synthetic' -r
complete -c spotd -n "__fish_spotd_using_subcommand log; and not __fish_seen_subcommand_from export help" -l json -d 'Print the records exactly as they are in the log, one JSON object per line'
complete -c spotd -n "__fish_spotd_using_subcommand log; and not __fish_seen_subcommand_from export help" -s f -l follow -d 'Go on with what is written from now on, until stopped'
complete -c spotd -n "__fish_spotd_using_subcommand log; and not __fish_seen_subcommand_from export help" -s v -l verbose -d 'Say more (-v: debug, -vv: trace); RUST_LOG overrides this'
complete -c spotd -n "__fish_spotd_using_subcommand log; and not __fish_seen_subcommand_from export help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c spotd -n "__fish_spotd_using_subcommand log; and not __fish_seen_subcommand_from export help" -s V -l version -d 'Print version'
complete -c spotd -n "__fish_spotd_using_subcommand log; and not __fish_seen_subcommand_from export help" -a "export" -d 'Copy an event into a new folder or ZIP file that `spotd verify` can check elsewhere'
complete -c spotd -n "__fish_spotd_using_subcommand log; and not __fish_seen_subcommand_from export help" -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c spotd -n "__fish_spotd_using_subcommand log; and __fish_seen_subcommand_from export" -s t -l to -d 'The new folder, by default event-EVENT; or, if it ends in .zip, one file with that folder in it' -r -F
complete -c spotd -n "__fish_spotd_using_subcommand log; and __fish_seen_subcommand_from export" -s v -l verbose -d 'Say more (-v: debug, -vv: trace); RUST_LOG overrides this'
complete -c spotd -n "__fish_spotd_using_subcommand log; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c spotd -n "__fish_spotd_using_subcommand log; and __fish_seen_subcommand_from export" -s V -l version -d 'Print version'
complete -c spotd -n "__fish_spotd_using_subcommand log; and __fish_seen_subcommand_from help" -f -a "export" -d 'Copy an event into a new folder or ZIP file that `spotd verify` can check elsewhere'
complete -c spotd -n "__fish_spotd_using_subcommand log; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c spotd -n "__fish_spotd_using_subcommand verify" -l public-key -d 'Public key (PEM, or 64 hex digits in a file) that must have signed the log' -r -F
complete -c spotd -n "__fish_spotd_using_subcommand verify" -l json -d 'Print the report as one JSON object instead of text'
complete -c spotd -n "__fish_spotd_using_subcommand verify" -s v -l verbose -d 'Say more (-v: debug, -vv: trace); RUST_LOG overrides this'
complete -c spotd -n "__fish_spotd_using_subcommand verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c spotd -n "__fish_spotd_using_subcommand verify" -s V -l version -d 'Print version'
complete -c spotd -n "__fish_spotd_using_subcommand eval" -s m -l model -d 'Model (ONNX, its card beside it) instead of the built-in one' -r -F
complete -c spotd -n "__fish_spotd_using_subcommand eval" -l precision -d 'Precision to run the model in: auto (int8 where the model is quantised), f32 or int8' -r
complete -c spotd -n "__fish_spotd_using_subcommand eval" -l view -d 'Which part of a picture is judged' -r -f -a "tiles\t'Tiles at native resolution over the whole picture, mean of their logits: as `run` and `scan`'
crop\t'The middle, as large as the model\'s tile: as in the paper, whose crops have 224 pixels'
whole\t'The whole picture in one pass of the network'"
complete -c spotd -n "__fish_spotd_using_subcommand eval" -l max-tiles -d 'Judge at most so many tiles of a picture, those with the most detail; by default 64, or 9 of a frame of a clip, as run does' -r
complete -c spotd -n "__fish_spotd_using_subcommand eval" -l fps -d 'Clips: frames per second to judge, as run does' -r
complete -c spotd -n "__fish_spotd_using_subcommand eval" -l seconds -d 'Clips: give figures after so many seconds; those of whole clips are always given too' -r
complete -c spotd -n "__fish_spotd_using_subcommand eval" -l perturb -d 'Also judge after this: jpeg=QUALITY,... blur=SIGMA,... resize=FACTOR,... h264=CRF,... h265=CRF,... May be given several times; each strength is a condition of its own' -r
complete -c spotd -n "__fish_spotd_using_subcommand eval" -l threshold -d 'Score (0..1) from which a picture counts as generated, instead of the card\'s' -r
complete -c spotd -n "__fish_spotd_using_subcommand eval" -l recall -d 'Share (0..1) of the generated pictures at which false positives are counted' -r
complete -c spotd -n "__fish_spotd_using_subcommand eval" -l bootstrap -d 'Replicates of the bootstrap behind the 95 % intervals; 0 for none' -r
complete -c spotd -n "__fish_spotd_using_subcommand eval" -l seed -d 'Seed of the bootstrap' -r
complete -c spotd -n "__fish_spotd_using_subcommand eval" -s j -l jobs -d 'Pictures judged side by side; by default one per core' -r
complete -c spotd -n "__fish_spotd_using_subcommand eval" -l csv -d 'Write the results as CSV' -r -F
complete -c spotd -n "__fish_spotd_using_subcommand eval" -l markdown -d 'Write the results as a Markdown page' -r -F
complete -c spotd -n "__fish_spotd_using_subcommand eval" -l plots -d 'Write plots (SVG) into this folder: ROC, precision and recall, scores, robustness; for clips, what more seconds gain' -r -F
complete -c spotd -n "__fish_spotd_using_subcommand eval" -l json -d 'Print one JSON object per line: the model, what was found, what was skipped, results, means; for clips also each clip'
complete -c spotd -n "__fish_spotd_using_subcommand eval" -s v -l verbose -d 'Say more (-v: debug, -vv: trace); RUST_LOG overrides this'
complete -c spotd -n "__fish_spotd_using_subcommand eval" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c spotd -n "__fish_spotd_using_subcommand eval" -s V -l version -d 'Print version'
complete -c spotd -n "__fish_spotd_using_subcommand spectrum" -s o -l out -d 'Folder for the results: a PNG for each set, profiles.svg and profiles.csv' -r -F
complete -c spotd -n "__fish_spotd_using_subcommand spectrum" -l size -d 'Side of the centre crop in pixels; smaller pictures are left out' -r
complete -c spotd -n "__fish_spotd_using_subcommand spectrum" -l median -d 'Side of the median filter whose result is subtracted, odd' -r
complete -c spotd -n "__fish_spotd_using_subcommand spectrum" -l images -d 'Take at most so many pictures of each side of a set, drawn at random' -r
complete -c spotd -n "__fish_spotd_using_subcommand spectrum" -l seed -d 'Seed of that draw' -r
complete -c spotd -n "__fish_spotd_using_subcommand spectrum" -s j -l jobs -d 'Threads; by default one per core' -r
complete -c spotd -n "__fish_spotd_using_subcommand spectrum" -s v -l verbose -d 'Say more (-v: debug, -vv: trace); RUST_LOG overrides this'
complete -c spotd -n "__fish_spotd_using_subcommand spectrum" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c spotd -n "__fish_spotd_using_subcommand spectrum" -s V -l version -d 'Print version'
complete -c spotd -n "__fish_spotd_using_subcommand calibrate" -l real -d 'Footage of the site that is known to be real: a video, a camera, an address such as rtsp://..., or a folder of pictures that are frames in the order of their names. May be given several times' -r
complete -c spotd -n "__fish_spotd_using_subcommand calibrate" -l fake -d 'Footage that is known to be generated, of the kind to be found, if there is any' -r
complete -c spotd -n "__fish_spotd_using_subcommand calibrate" -l log -d 'Flag log whose events operators have judged on the page: pictures of false alarms count as real footage, those of confirmed events as generated' -r -F
complete -c spotd -n "__fish_spotd_using_subcommand calibrate" -l per-day -d 'Acceptable false alarms per camera and day: 0.033 is one a month' -r
complete -c spotd -n "__fish_spotd_using_subcommand calibrate" -s o -l out -d 'File to write, for [model] calibration' -r -F
complete -c spotd -n "__fish_spotd_using_subcommand calibrate" -s c -l config -d 'Take model, tiles and [verdict] from this configuration instead of the defaults' -r -F
complete -c spotd -n "__fish_spotd_using_subcommand calibrate" -s m -l model -d 'Model (ONNX, its card beside it) instead of the built-in one' -r -F
complete -c spotd -n "__fish_spotd_using_subcommand calibrate" -l fps -d 'Frames per second that will be judged ([[source]] fps), and that a folder\'s pictures stand for' -r
complete -c spotd -n "__fish_spotd_using_subcommand calibrate" -l seconds -d 'Seconds to watch a live stream or camera; what has an end is read to its end' -r
complete -c spotd -n "__fish_spotd_using_subcommand calibrate" -s j -l jobs -d 'Inference threads; by default one per core' -r
complete -c spotd -n "__fish_spotd_using_subcommand calibrate" -l json -d 'Print the result as one JSON object instead of text'
complete -c spotd -n "__fish_spotd_using_subcommand calibrate" -s v -l verbose -d 'Say more (-v: debug, -vv: trace); RUST_LOG overrides this'
complete -c spotd -n "__fish_spotd_using_subcommand calibrate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c spotd -n "__fish_spotd_using_subcommand calibrate" -s V -l version -d 'Print version'
complete -c spotd -n "__fish_spotd_using_subcommand quantize" -s m -l model -d 'Float32 model (ONNX, its card beside it)' -r -F
complete -c spotd -n "__fish_spotd_using_subcommand quantize" -l calibrate -d 'Pictures to calibrate with, like those that will be judged: a folder, a video, an address such as rtsp://..., or a camera such as /dev/video0. May be given several times' -r
complete -c spotd -n "__fish_spotd_using_subcommand quantize" -s o -l out -d 'File to write; the card goes beside it' -r -F
complete -c spotd -n "__fish_spotd_using_subcommand quantize" -l images -d 'Calibrate with at most so many pictures or frames; every third is held out to measure on' -r
complete -c spotd -n "__fish_spotd_using_subcommand quantize" -l keep-float -d 'Keep the layer with this node name in float. May be given several times' -r
complete -c spotd -n "__fish_spotd_using_subcommand quantize" -l clip -d 'How ranges are clipped; auto tries all and takes the one with the least error of the logit' -r -f -a "auto\t''
min-max\t''
99.999\t''
99.99\t''
99.9\t''
mse\t''"
complete -c spotd -n "__fish_spotd_using_subcommand quantize" -l residual -d 'Where a residual addition is rounded to bytes: fused, its sum is rounded once, which is exact and fast here; apart, both summands are bytes too, which onnxruntime runs fastest' -r -f -a "fused\t''
apart\t''"
complete -c spotd -n "__fish_spotd_using_subcommand quantize" -l eval -d 'Also measure both models on these sets, laid out as for spotd eval, and put the figures into the card' -r -F
complete -c spotd -n "__fish_spotd_using_subcommand quantize" -l perturb -d 'With --eval: also measure after this, as spotd eval does' -r
complete -c spotd -n "__fish_spotd_using_subcommand quantize" -l fps -d 'Frames per second taken from a video or stream' -r
complete -c spotd -n "__fish_spotd_using_subcommand quantize" -l seconds -d 'Seconds to watch a live stream or camera; what has an end is read to its end' -r
complete -c spotd -n "__fish_spotd_using_subcommand quantize" -s j -l jobs -d 'Threads; by default one per core' -r
complete -c spotd -n "__fish_spotd_using_subcommand quantize" -l symmetric -d 'Write only signed bytes with zero point 0, and biases in float, as TensorRT requires. Costs a bit of precision'
complete -c spotd -n "__fish_spotd_using_subcommand quantize" -l all-int8 -d 'Keep all layers in int8, even if the first or last would be much more exact in float'
complete -c spotd -n "__fish_spotd_using_subcommand quantize" -l reduce-range -d 'Weights of at most 64 steps instead of 127: exact and faster on x86 processors without VNNI, also in other runtimes, for a bit of precision'
complete -c spotd -n "__fish_spotd_using_subcommand quantize" -l round-to-nearest -d 'Round weights to the nearest step instead of for the least error of their layer: much quicker for networks as large as ResNet-50, and less precise'
complete -c spotd -n "__fish_spotd_using_subcommand quantize" -l json -d 'Print the result as one JSON object instead of text'
complete -c spotd -n "__fish_spotd_using_subcommand quantize" -s v -l verbose -d 'Say more (-v: debug, -vv: trace); RUST_LOG overrides this'
complete -c spotd -n "__fish_spotd_using_subcommand quantize" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c spotd -n "__fish_spotd_using_subcommand quantize" -s V -l version -d 'Print version'
complete -c spotd -n "__fish_spotd_using_subcommand bench" -s m -l model -d 'Model (ONNX, its card beside it) instead of the built-in one' -r -F
complete -c spotd -n "__fish_spotd_using_subcommand bench" -l precision -d 'Run it in this precision: auto (int8 where the file is quantised), f32 or int8' -r
complete -c spotd -n "__fish_spotd_using_subcommand bench" -s t -l threads -d 'Workers of the run on all cores, or of --cameras; by default one per core' -r
complete -c spotd -n "__fish_spotd_using_subcommand bench" -l seconds -d 'Seconds that each of the two runs takes, on one core and on all (5), or that each number of cameras is measured (10). A board without a fan takes minutes to get hot' -r
complete -c spotd -n "__fish_spotd_using_subcommand bench" -s c -l config -d 'Take the model from this configuration; with --cameras also its workers, tiles, [verdict] and the highest frame rate of its sources' -r -F
complete -c spotd -n "__fish_spotd_using_subcommand bench" -l clip -d 'Play this clip instead of the built-in one (1080p25 H.264, 1.4 Mbit/s, a key frame every 2 s): H.264, H.265, VP8, VP9, AV1 or Motion JPEG in a container. A few seconds of a camera\'s own stream tell most' -r -F
complete -c spotd -n "__fish_spotd_using_subcommand bench" -l fps -d 'Frames judged of each camera per second at most; by default 2, or the highest of the configuration' -r
complete -c spotd -n "__fish_spotd_using_subcommand bench" -l tiles -d 'Tiles judged in each frame at most; by default 9, or as in the configuration' -r
complete -c spotd -n "__fish_spotd_using_subcommand bench" -l decode -d 'Which frames are decoded: auto (key frames alone, where they come at least every 2.5 s) or all' -r -f -a "auto\t''
all\t''"
complete -c spotd -n "__fish_spotd_using_subcommand bench" -l max-cameras -d 'Try no more cameras than this' -r
complete -c spotd -n "__fish_spotd_using_subcommand bench" -l json -d 'Print one JSON object instead of text: model, precision, threads, min_ms, median_ms, and more; with --cameras: cameras, shares, steps, and more'
complete -c spotd -n "__fish_spotd_using_subcommand bench" -l cameras -d 'Measure how many cameras this machine carries instead: the daemon itself, without publishers, watches an encoded clip at its own pace, by 1, 2, 4, ... cameras, until frames that are due are lost or come late. What a network camera costs to receive is not in it'
complete -c spotd -n "__fish_spotd_using_subcommand bench" -s v -l verbose -d 'Say more (-v: debug, -vv: trace); RUST_LOG overrides this'
complete -c spotd -n "__fish_spotd_using_subcommand bench" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c spotd -n "__fish_spotd_using_subcommand bench" -s V -l version -d 'Print version'
complete -c spotd -n "__fish_spotd_using_subcommand sources" -l json -d 'Print one JSON object per camera and line instead of text'
complete -c spotd -n "__fish_spotd_using_subcommand sources" -s v -l verbose -d 'Say more (-v: debug, -vv: trace); RUST_LOG overrides this'
complete -c spotd -n "__fish_spotd_using_subcommand sources" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c spotd -n "__fish_spotd_using_subcommand sources" -s V -l version -d 'Print version'
complete -c spotd -n "__fish_spotd_using_subcommand completions" -s v -l verbose -d 'Say more (-v: debug, -vv: trace); RUST_LOG overrides this'
complete -c spotd -n "__fish_spotd_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c spotd -n "__fish_spotd_using_subcommand completions" -s V -l version -d 'Print version'
complete -c spotd -n "__fish_spotd_using_subcommand help; and not __fish_seen_subcommand_from run scan check log verify eval spectrum calibrate quantize bench sources completions help" -f -a "run" -d 'Watch sources until stopped; keep flagged frames in the log, and publish them'
complete -c spotd -n "__fish_spotd_using_subcommand help; and not __fish_seen_subcommand_from run scan check log verify eval spectrum calibrate quantize bench sources completions help" -f -a "scan" -d 'Judge images, folders and videos; exit code 0: none flagged, 1: some flagged, 2: error'
complete -c spotd -n "__fish_spotd_using_subcommand help; and not __fish_seen_subcommand_from run scan check log verify eval spectrum calibrate quantize bench sources completions help" -f -a "check" -d 'Say whether configuration, model, each source, log folder, broker and webhooks would work'
complete -c spotd -n "__fish_spotd_using_subcommand help; and not __fish_seen_subcommand_from run scan check log verify eval spectrum calibrate quantize bench sources completions help" -f -a "log" -d 'List, filter and follow the flag log, or export an event with everything needed to check it'
complete -c spotd -n "__fish_spotd_using_subcommand help; and not __fish_seen_subcommand_from run scan check log verify eval spectrum calibrate quantize bench sources completions help" -f -a "verify" -d 'Check a flag log or an export: chain, evidence, signatures; exit code 0: intact, 1: not'
complete -c spotd -n "__fish_spotd_using_subcommand help; and not __fish_seen_subcommand_from run scan check log verify eval spectrum calibrate quantize bench sources completions help" -f -a "eval" -d 'Measure how well a detector ranks labelled pictures: AP, AUC, accuracy, calibration, robustness'
complete -c spotd -n "__fish_spotd_using_subcommand help; and not __fish_seen_subcommand_from run scan check log verify eval spectrum calibrate quantize bench sources completions help" -f -a "spectrum" -d 'Draw the mean log spectra of high-pass filtered pictures, real beside generated, set by set'
complete -c spotd -n "__fish_spotd_using_subcommand help; and not __fish_seen_subcommand_from run scan check log verify eval spectrum calibrate quantize bench sources completions help" -f -a "calibrate" -d 'Find threshold and temperature for one site from its own footage, for a stated rate of false alarms'
complete -c spotd -n "__fish_spotd_using_subcommand help; and not __fish_seen_subcommand_from run scan check log verify eval spectrum calibrate quantize bench sources completions help" -f -a "quantize" -d 'Make an int8 model from a float32 one, calibrated on pictures, a video or a camera, and say what that costs'
complete -c spotd -n "__fish_spotd_using_subcommand help; and not __fish_seen_subcommand_from run scan check log verify eval spectrum calibrate quantize bench sources completions help" -f -a "bench" -d 'Measure what this machine can do with a detector: ms per tile, each operator, or how many cameras it carries'
complete -c spotd -n "__fish_spotd_using_subcommand help; and not __fish_seen_subcommand_from run scan check log verify eval spectrum calibrate quantize bench sources completions help" -f -a "sources" -d 'List the cameras of this machine: lasting names, formats, sizes, rates'
complete -c spotd -n "__fish_spotd_using_subcommand help; and not __fish_seen_subcommand_from run scan check log verify eval spectrum calibrate quantize bench sources completions help" -f -a "completions" -d 'Print what a shell (bash, zsh, fish and others) needs to complete command lines'
complete -c spotd -n "__fish_spotd_using_subcommand help; and not __fish_seen_subcommand_from run scan check log verify eval spectrum calibrate quantize bench sources completions help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c spotd -n "__fish_spotd_using_subcommand help; and __fish_seen_subcommand_from log" -f -a "export" -d 'Copy an event into a new folder or ZIP file that `spotd verify` can check elsewhere'
