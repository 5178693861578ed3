"""Every error of the table is triggered from the outside, or it is said why not, and which test does it inside."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from error_tables import ERRORS

TESTS = Path(__file__).parents[1]
#: The modules that trigger errors with real processes.
OUTSIDE = [
    TESTS / "errors" / f"test_errors_{area}.py"
    for area in ("answers", "files", "rows", "partitioning", "models", "training", "server", "net", "prepare")
]
OUTSIDE += [
    TESTS / "stories" / f"test_{name}_story.py"
    for name in ("client_data", "memory", "keras_datasets", "resume", "simulation", "parts", "predict")
]
_API = "the commands never call it so: only who calls the functions can"
_NETWORK = "it needs a network that misbehaves"
_LIES = "a client says so only when it lies"
_PYTHON = "only a Python program can: no command gives it"
_MEMORY = "it takes more memory than a test may have"
_IN_FILE = "what is wrong with a file's options is told as compile.in-file, with this as its reason"
_CHECKED = "a check before it finds the same; it is there for who calls the function"
_CUSTOM = "a whole run for each would cost too much: found by what reads, executes or compares the files"
_SEVERAL = "a model of several arrays would be made for it alone"
_LIES_OF_SERVERS = "a server says so only when it lies"
_PAGES = "lanfit_server/ui/test_dashboard_pages.py"
_STEERED = "only a program gives commands to a run, while it is in progress"
_STEERING = "lanfit_server/run/test_steering.py"
_IN_JOB = "it is checked where every job is made, without a server"
_READER = "its reader meets other errors from the outside, and each costs a process"

_PAGE = "only the live page can: no command gives it"
_REQUESTS = "lanfit_server/ui/test_dashboard_requests.py"
_RUNS = "lanfit_server/ui/test_dashboard_runs.py"

#: Code → why nobody can trigger it from the outside, and the test that triggers it all the same.
INSIDE = {
    "report.no-run": (
        "the command has a test of its own, without a process",
        "lanfit_server/report/test_report_command.py::test_a_run_that_is_not_there_is_named",
    ),
    "command.no-client": (
        _STEERED,
        "lanfit_server/run/test_engine.py::test_a_client_that_does_not_take_part_can_not_be_stopped",
    ),
    **dict.fromkeys(
        ("page.no-command", "page.no-setting"),
        ("it takes a browser", f"{_PAGES}::test_what_is_not_a_command_is_refused"),
    ),
    "page.no-run": ("it takes a browser", f"{_PAGES}::test_a_run_is_steered_from_the_page"),
    "page.no-object": ("it takes a browser", f"{_PAGES}::test_a_body_that_is_not_an_object_is_refused"),
    "page.nothing-to-start": (
        "it takes a browser",
        f"{_PAGES}::test_who_waits_for_clients_can_be_started_without_them",
    ),
    "page.no-ban": ("it takes a browser", f"{_PAGES}::test_bans_are_shown_and_lifted"),
    "page.no-port": ("it takes all ports", f"{_PAGES}::test_a_page_that_finds_no_free_port_says_so"),
    "page.not-queued": (_PAGE, f"{_REQUESTS}::test_a_run_that_waits_for_its_turn_can_be_withdrawn_once"),
    **dict.fromkeys(
        ("page.run-gone", "page.no-file"),
        (_PAGE, f"{_RUNS}::test_a_file_of_another_run_is_not_given_out_under_the_name_of_this_one"),
    ),
    "page.no-log": (_PAGE, f"{_RUNS}::test_the_log_of_a_client_is_shown_and_no_other_file"),
    **dict.fromkeys(
        ("page.run-goes-on", "page.not-confirmed"),
        (_PAGE, f"{_RUNS}::test_a_run_is_deleted_with_its_models_if_that_is_confirmed_and_never_one_in_progress"),
    ),
    "page.nothing-to-resume": (
        _PAGE,
        f"{_RUNS}::test_an_interrupted_run_is_resumed_once_and_a_finished_one_is_not",
    ),
    "page.not-comparable": (_PAGE, f"{_RUNS}::test_runs_are_side_by_side_with_their_differences"),
    **dict.fromkeys(
        ("one-machine.client-data", "one-machine.no-client"),
        (_PAGE, f"{_REQUESTS}::test_rows_on_the_clients_have_no_single_machine"),
    ),
    "digits.other-files": (
        _PAGE,
        "lanfit_server/ui/test_dashboard_form.py::test_the_digits_are_offered_until_there_is_other_data",
    ),
    "build.too-large": (
        _PAGE,
        "lanfit_server/ui/test_dashboard_builders.py"
        "::test_a_model_that_would_fill_the_memory_is_refused_before_it_is_made",
    ),
    **dict.fromkeys(
        (
            "build.unknown-kind",
            "build.no-shape",
            "build.not-an-image",
            "build.sequences",
            "build.wrong-shape",
            "build.wrong-name",
            "build.name-taken",
        ),
        (
            _PAGE,
            "lanfit_server/ui/test_dashboard_builders.py::test_what_can_not_be_built_is_reported_beside_its_field",
        ),
    ),
    "cluster.no-run": (
        "it takes a program, and a story of one has it",
        "stories/test_python_cluster_story.py::test_a_program_steers_the_run_that_it_has_begun",
    ),
    "command.not-of-method": (
        _STEERED,
        "lanfit_server/run/test_engine.py::test_a_setting_that_a_method_can_not_change_is_refused_and_the_run_continues",
    ),
    "command.no-task-left": (_STEERED, f"{_STEERING}::test_when_all_tasks_are_over_no_setting_can_be_changed"),
    "command.no-round-left": (
        _STEERED,
        f"{_STEERING}::test_a_change_that_nothing_is_left_for_is_refused_and_nothing_is_recorded",
    ),
    **dict.fromkeys(
        ("command.rate-schedule", "command.no-learning-rate", "command.epochs-of-steps"),
        (_STEERED, f"{_STEERING}::test_what_a_run_has_no_number_for_can_not_be_changed_in_it"),
    ),
    "value.too-many-digits": (
        "in a file it is one of the errors of that file",
        "lanfit/core/test_commands.py::test_a_program_that_gives_such_a_number_is_reported",
    ),
    "command.run-over": (
        "it takes a command in the moment in which a run ends",
        "lanfit_server/run/test_shell.py::"
        "test_a_command_that_comes_too_late_is_refused_and_nothing_of_the_run_is_left_for_the_next_one",
    ),
    "cluster.no-change": (_STEERED, f"{_STEERING}::test_a_program_that_changes_nothing_or_what_can_not_be_is_reported"),
    "task.no-such-row": (_LIES_OF_SERVERS, "lanfit/training/test_row_cache.py::test_an_index_of_no_row_is_refused"),
    "value.no-change": (_IN_JOB, f"{_STEERING}::test_a_job_file_with_a_change_that_can_not_be_is_refused"),
    "job.changes-of-method": (_IN_JOB, f"{_STEERING}::test_changes_of_another_method_are_refused"),
    **dict.fromkeys(
        ("named.no-file", "named.several-files", "named.count", "named.no-such-array", "named.unnamed"),
        (_SEVERAL, "lanfit/data/test_named_arrays.py::test_what_is_wrong_with_the_file_is_named"),
    ),
    **dict.fromkeys(
        ("targets.several-with-xx", "own-data.several-arrays", "set.several-arrays"),
        (_SEVERAL, "lanfit_server/api/test_several_arrays.py::test_what_several_arrays_can_not_do_is_refused"),
    ),
    **dict.fromkeys(
        ("compile.no-loss", "compile.per-output"),
        (
            _IN_FILE,
            "lanfit_server/api/test_several_arrays.py"
            "::test_what_does_not_say_which_output_it_is_for_is_a_problem_of_the_loss",
        ),
    ),
    **dict.fromkeys(
        ("job.named-without-files", "job.named-and-key", "value.twice"),
        (
            "it is checked where every job is made, without a server",
            "lanfit_server/api/test_several_arrays.py::test_the_arrays_of_a_file_are_named_for_files_alone_and_in_one_way",
        ),
    ),
    **dict.fromkeys(
        ("fit.several-arrays", "fit.array-missing"),
        (_PYTHON, "lanfit_server/api/test_several_arrays.py::test_what_does_not_say_which_array_is_which_is_refused"),
    ),
    "fit.subclassed-several": (
        _PYTHON,
        "lanfit_server/api/test_api_custom_objects.py::test_a_subclassed_model_of_several_arrays_is_refused",
    ),
    "images.no-pillow": (
        "Pillow is installed where tests run",
        "lanfit/data/test_images.py::test_without_pillow_it_is_named",
    ),
    "images.too-large": (_MEMORY, "lanfit/data/test_images.py::test_an_image_that_declares_too_many_pixels_is_refused"),
    "images.deep": (
        "it is found like a damaged one, which the commands meet",
        "lanfit/data/test_images.py::test_what_is_in_the_way_is_named",
    ),
    "images.no-size": (
        "no model of the scenarios takes images",
        "lanfit/data/test_images.py::test_a_model_that_takes_no_images_is_refused",
    ),
    "images.no-numbers": (
        "no model of the scenarios takes images",
        "lanfit/data/test_images.py::test_numbers_have_no_folders",
    ),
    "folder.raw-table": (
        "it is found where a missing folder is, which a scenario triggers",
        "lanfit/data/test_images.py::test_a_raw_table_beside_empty_folders_is_named_with_the_command",
    ),
    "rows.unknown-id": (
        "a model with an Embedding would be made for it alone",
        "lanfit/data/test_prepare.py::test_an_id_that_the_embedding_does_not_know_is_named_with_file_row_and_column",
    ),
    "compile.unreadable": (_IN_FILE, "lanfit/models/test_compiling.py::test_the_rest_of_a_file_is_read_without_it"),
    "compile.several-losses": (_IN_FILE, "lanfit/models/test_compiling.py::test_the_rest_of_a_file_is_read_without_it"),
    "compile.other-kind": (_IN_FILE, "lanfit/models/test_compiling.py::test_the_rest_of_a_file_is_read_without_it"),
    "link.broken": (
        "it takes a server that breaks the protocol",
        "hostile/test_floods.py::test_a_server_that_breaks_the_protocol_again_and_again_is_joined_less_and_less_often",
    ),
    "task.impossible": (
        "it takes a server of another kind",
        "hostile/test_leases.py::test_a_task_that_can_not_be_is_refused_by_the_name_of_its_field",
    ),
    "model.too-many-layers": (
        "a model of thousands of layers would be made for it alone",
        "hostile/test_leases.py::test_a_model_of_thousands_of_layers_is_refused_before_it_is_built",
    ),
    "model.other-keras": (
        "it takes two versions of Keras",
        "lanfit_client/test_agent.py::test_a_model_of_another_keras_is_built_before_rows_are_fetched",
    ),
    "weights.other-layers": (
        "a file of Keras 2 would be written for it alone",
        "lanfit/models/test_old_files.py::test_weights_of_another_model_are_reported_by_layer",
    ),
    "weights.other-count": (
        "a file of Keras 2 would be written for it alone",
        "lanfit/models/test_old_files.py::test_weights_of_another_model_are_reported_by_layer",
    ),
    "weights.other-shape": (
        "a file of Keras 2 would be written for it alone",
        "lanfit/models/test_old_files.py::test_weights_of_another_model_are_reported_by_layer",
    ),
    "batch.metric-name": (
        "a model of the tests would be loaded for it alone",
        "lanfit/models/test_checking_batches.py::test_a_metric_whose_name_no_history_can_hold_is_refused_before_training",
    ),
    "batch.many-metrics": (
        "a model of the tests would be loaded for it alone",
        "lanfit/models/test_checking_batches.py::test_more_metrics_than_a_result_has_room_for_are_refused_before_training",
    ),
    "batch.metric-array": (
        "a model of the tests would be loaded for it alone",
        "lanfit/models/test_checking_batches.py::test_a_metric_that_gives_several_numbers_is_refused_and_the_way_out_works",
    ),
    "cluster.one-place": (_PYTHON, "lanfit_server/api/test_api_rows.py::test_a_cluster_is_in_one_place"),
    "cluster.clients-of-local": (_PYTHON, "lanfit_server/api/test_api_rows.py::test_a_cluster_is_in_one_place"),
    "cluster.pool": (_PYTHON, "lanfit_server/api/test_api_rows.py::test_a_cluster_is_in_one_place"),
    "cluster.dashboard": (_PYTHON, "lanfit_server/api/test_api_rows.py::test_a_cluster_is_in_one_place"),
    "cluster.address": (_PYTHON, "lanfit_server/api/test_api_rows.py::test_a_cluster_is_in_one_place"),
    "fit.unsupported": (
        _PYTHON,
        "lanfit_server/api/test_api_rows.py::test_what_a_cluster_can_not_do_is_refused_by_name",
    ),
    "fit.unknown-argument": (
        _PYTHON,
        "lanfit_server/api/test_api_rows.py::test_fields_of_a_job_are_read_as_in_a_job_file",
    ),
    "fit.no-model": (_PYTHON, "lanfit_server/api/test_api_rows.py::test_what_is_no_compiled_model_is_refused_at_once"),
    "fit.not-compiled": (
        _PYTHON,
        "lanfit_server/api/test_api_rows.py::test_what_is_no_compiled_model_is_refused_at_once",
    ),
    "fit.weights-at-epochs": (
        _PYTHON,
        "lanfit_server/api/test_api_callbacks.py::test_callbacks_that_save_weights_are_refused_with_method_fit",
    ),
    "fit.not-saved": (
        _PYTHON,
        "lanfit_server/api/test_api_configs.py::test_what_is_set_behind_the_back_of_the_configuration_is_refused_by_name",
    ),
    "fit.too-large": (
        _PYTHON,
        "lanfit_server/api/test_api_datasets.py::test_a_dataset_that_memory_has_no_space_for_stops_with_numbers",
    ),
    "fit.function": (
        _PYTHON,
        "lanfit_server/api/test_api_configs.py::test_functions_that_can_not_be_told_by_name_are_refused_with_their_place",
    ),
    "fit.monitor": (
        _PYTHON,
        "lanfit_server/api/test_api_callbacks.py::test_a_monitor_that_keras_can_not_monitor_is_refused_and_the_advice_works",
    ),
    "fit.swap-ema": (
        _PYTHON,
        "lanfit_server/api/test_api_callbacks.py::test_swapping_averages_is_refused_and_leaving_it_out_is_advised",
    ),
    "fit.no-targets": (
        _PYTHON,
        "lanfit_server/api/test_api_rows.py::test_targets_are_needed",
    ),
    "fit.targets-twice": (_PYTHON, "lanfit_server/api/test_api_rows.py::test_datasets_are_read_once_batched_or_not"),
    "fit.endless": (_PYTHON, "lanfit_server/api/test_api_rows.py::test_datasets_are_read_once_batched_or_not"),
    "fit.elements": (_PYTHON, "lanfit_server/api/test_api_rows.py::test_datasets_are_read_once_batched_or_not"),
    "fit.not-rows": (_PYTHON, "lanfit_server/api/test_api_rows.py::test_what_is_no_array_of_rows_is_named"),
    "fit.lengths": (_PYTHON, "lanfit_server/api/test_api_rows.py::test_different_lengths_are_named_with_their_numbers"),
    "fit.two-weights": (_PYTHON, "lanfit_server/api/test_api_rows.py::test_class_weights_that_can_not_be_used_say_why"),
    "fit.class-weight": (
        _PYTHON,
        "lanfit_server/api/test_api_rows.py::test_class_weights_that_can_not_be_used_say_why",
    ),
    "fit.sample-weight": (_PYTHON, "lanfit_server/api/test_api_rows.py::test_weights_are_one_number_a_row"),
    "cluster.closed": (
        _PYTHON,
        "stories/test_python_story.py::test_two_fits_in_a_script_without_a_main_guard",
    ),
    "cluster.busy": (_PYTHON, "stories/test_python_story.py::test_two_fits_in_a_script_without_a_main_guard"),
    "fit.no-rows": (_PYTHON, "stories/test_python_story.py::test_two_fits_in_a_script_without_a_main_guard"),
    "fit.other-rows-too": (
        _PYTHON,
        "stories/test_python_story.py::test_two_fits_in_a_script_without_a_main_guard",
    ),
    "fit.validation-data": (
        _PYTHON,
        "stories/test_python_story.py::test_two_fits_in_a_script_without_a_main_guard",
    ),
    "fit.ended": (_PYTHON, "stories/test_python_story.py::test_two_fits_in_a_script_without_a_main_guard"),
    "attach.abandoned": (
        _PYTHON,
        "stories/test_python_story.py::test_a_run_whose_service_is_killed_can_be_gone_on_with",
    ),
    "job.arrays": (_PYTHON, "stories/test_python_story.py::test_a_run_whose_service_is_killed_can_be_gone_on_with"),
    "csv.unreadable": (
        "what pandas refuses is found and named; this is for what nobody has thought of",
        "lanfit/data/test_csv_reader.py::test_what_nobody_has_thought_of_is_reported_in_the_words_of_pandas",
    ),
    "file.no-file": (_READER, "lanfit/data/test_data_files.py::test_a_pipe_or_a_device_is_named_and_not_waited_for"),
    "system.out-of-memory": (
        _MEMORY,
        "lanfit/core/test_commands.py::test_memory_that_runs_out_is_one_line_and_an_exit_code",
    ),
    "csv.many-columns": (
        _READER,
        "lanfit/data/test_csv_reader.py::test_a_million_columns_are_refused_by_the_first_line",
    ),
    "csv.thousands": (_READER, "lanfit/data/test_signs.py::test_what_is_refused_for_its_signs_has_a_code"),
    "csv.missing": (
        _READER,
        "lanfit/data/test_signs.py::test_a_first_row_with_a_mark_for_missing_is_data_and_the_mark_is_named",
    ),
    "xlsx.missing": (_READER, "lanfit/data/test_xlsx_reader.py::test_a_mark_for_missing_is_named"),
    "xlsx.not-computed": (
        _READER,
        "lanfit/data/test_xlsx_reader.py::test_formulas_that_nobody_computed_are_refused_and_the_first_is_named",
    ),
    "columns.not-numbers": (
        _READER,
        "lanfit/data/test_refusals.py::test_all_columns_in_the_way_are_named_at_once_with_what_is_proposed",
    ),
    "labels.missing": (
        _READER,
        "lanfit/data/test_text_labels.py::test_a_mark_for_missing_among_labels_is_named_or_said",
    ),
    "frame.no-reader": (
        _READER,
        "lanfit/data/test_arrow_frames.py::test_without_pyarrow_the_two_ways_out_are_reported",
    ),
    "frame.not-numbers": (_READER, "lanfit/data/test_arrow_frames.py::test_what_is_no_number_is_named"),
    "frame.missing": (_READER, "lanfit/data/test_arrow_frames.py::test_what_is_no_number_is_named"),
    "frame.damaged": (_READER, "lanfit/data/test_arrow_frames.py::test_what_is_no_such_file_is_refused"),
    "npz.structured": (_READER, "lanfit/data/test_npz_reader.py::test_the_advice_for_other_values_gives_plain_numbers"),
    "npz.sparse": (_READER, "lanfit/data/test_npz_reader.py::test_a_sparse_matrix_is_named_and_the_advice_works"),
    "file.wrong-ending": (
        "its readers meet other errors from the outside",
        "lanfit/data/test_file_type.py::test_a_file_that_is_something_else_than_its_name_says_is_named",
    ),
    "disk.full": (
        "a test can't fill a disk",
        "lanfit/core/test_files.py::test_a_full_disk_is_reported_before_anything_is_received",
    ),
    "file.no-rows": (_API, "lanfit/data/test_sources.py::test_arrays_that_do_not_pair_are_named"),
    "xlsx.larger-than-memory": (
        "it takes a file of a hundredth of the machine's memory",
        "lanfit/data/test_xlsx_reader.py::test_a_sheet_that_memory_does_not_hold_is_refused",
    ),
    "labels.open-outputs": (
        _CHECKED,
        "lanfit/data/test_labels.py::test_labels_need_a_number_of_outputs",
    ),
    "targets.no-files": (_API, "lanfit/data/test_sources.py::test_arrays_that_do_not_pair_are_named"),
    "targets.none": (_API, "lanfit/data/test_sources.py::test_arrays_that_do_not_pair_are_named"),
    "rows.permuted": (
        "no model of the scenarios takes rows of two dimensions",
        "lanfit/data/test_sources.py::test_rows_in_another_order_of_sizes_are_refused_wherever_they_come_from",
    ),
    "rows.no-folder": (
        _API,
        "lanfit/data/test_prepare.py::test_a_request_without_a_folder_needs_another_source",
    ),
    "split.share": (_CHECKED, "lanfit/data/test_split.py::test_a_share_outside_of_0_to_1_is_refused_with_its_number"),
    "split.more-shards-than-rows": (
        _CHECKED,
        "lanfit/data/test_split.py::test_too_many_clients_for_the_rows_are_refused_with_the_numbers",
    ),
    "normalizer.unknown": (
        _CHECKED,
        "lanfit/data/test_normalize.py::test_an_unknown_normalizer_is_named_with_the_choices",
    ),
    "listen.no-port": (_CHECKED, "lanfit/net/test_joining.py::test_every_way_of_not_listening_has_its_own_words"),
    "listen.port-forbidden": (
        "an administrator may use every port",
        "lanfit/net/test_joining.py::test_every_way_of_not_listening_has_its_own_words",
    ),
    "listen.port-reserved": (
        "it takes a system that reserves ports",
        "lanfit/net/test_joining.py::test_every_way_of_not_listening_has_its_own_words",
    ),
    "workspace.no-database": (
        "it takes a drive that locks no files",
        "lanfit_server/store/test_database.py::test_a_drive_that_holds_no_database_is_refused_before_the_first_question",
    ),
    "backend.no-dll": (
        "only Windows has DLLs",
        "lanfit/test_backends.py::test_the_end_of_a_process_shows_that_its_backend_is_unusable",
    ),
    "listen.failed": (_NETWORK, "lanfit/net/test_joining.py::test_every_way_of_not_listening_has_its_own_words"),
    "connect.no-port": (_CHECKED, "lanfit/net/test_joining.py::test_a_port_that_is_none_is_wrong_input"),
    "connect.name-not-found-in-time": (
        _NETWORK,
        "lanfit/net/test_joining.py::test_a_name_that_is_not_found_in_time_is_named",
    ),
    "connect.no-answer": (
        _NETWORK,
        "lanfit/net/test_joining.py::test_every_way_of_not_getting_through_has_its_own_message_and_hint",
    ),
    "connect.no-way": (
        _NETWORK,
        "lanfit/net/test_joining.py::test_every_way_of_not_getting_through_has_its_own_message_and_hint",
    ),
    "connect.rejected": (
        _NETWORK,
        "lanfit/net/test_joining.py::test_every_way_of_not_getting_through_has_its_own_message_and_hint",
    ),
    "connect.nobody-there": (
        _NETWORK,
        "lanfit/net/test_joining.py::test_every_way_of_not_getting_through_has_its_own_message_and_hint",
    ),
    "connect.dropped": (
        "a server is there for it, and ends at the right moment",
        "lanfit/net/test_joining.py::test_who_drops_the_connection_in_the_handshake_may_be_a_server_that_ends",
    ),
    "link.ended": (
        "a server is there for it, and dies",
        "lanfit_client/test_closing_messages.py::test_what_is_reported_when_a_link_ends_is_true_at_that_moment",
    ),
    "connect.failed": (
        _NETWORK,
        "lanfit/net/test_joining.py::test_every_way_of_not_getting_through_has_its_own_message_and_hint",
    ),
    "connect.silent": (
        "a client waits ten seconds for it",
        "lanfit/net/test_joining.py::test_a_server_that_takes_the_connection_and_says_nothing_is_given_up",
    ),
    "join.silent": (
        "a client waits ten seconds for it",
        "lanfit/net/test_joining.py::test_a_server_that_does_not_continue_the_login_is_given_up",
    ),
    "known-servers.unwritable": (
        "an administrator may write everywhere",
        "lanfit_client/test_known_servers.py::test_a_file_that_cannot_be_written_is_named",
    ),
    "set.no-sequences": (
        "it takes a set of sequences, and the smallest of Keras has 2 MB, which tests do not download",
        "lanfit/data/test_keras_datasets.py::test_a_model_of_any_length_gets_the_longest_sequence",
    ),
    "normalizer.other-model": (
        _API,
        "lanfit/models/test_export.py::test_constants_that_do_not_fit_are_refused_and_nothing_is_written",
    ),
    "model.missing": (
        _CHECKED,
        "lanfit/models/test_loading.py::test_a_file_that_is_not_there_or_empty_or_text_is_named",
    ),
    "model.folder": (
        _CHECKED,
        "lanfit/models/test_loading.py::test_a_folder_and_a_file_of_another_kind_are_refused",
    ),
    "weights.too-few": (
        "it takes a server that lies",
        "lanfit/models/test_size.py::test_a_layer_that_is_larger_than_the_weights_that_came_is_named",
    ),
    "weights.count": (_API, "lanfit/models/test_checking_batches.py::test_weights_of_another_model_are_refused"),
    "weights.other-array": (_API, "lanfit/models/test_checking_batches.py::test_weights_of_another_model_are_refused"),
    "weights.other-model": (_API, "lanfit/models/test_merge.py::test_what_can_not_be_averaged_is_refused"),
    "weights.no-average": (_API, "lanfit/models/test_merge.py::test_what_can_not_be_averaged_is_refused"),
    "weights.no-ensemble": (
        _API,
        "lanfit/models/test_merge.py::test_an_ensemble_of_one_is_that_one_and_none_is_refused",
    ),
    "aggregation.krum-keep": (
        _API,
        "lanfit_server/methods/test_aggregation.py::test_multi_krum_keeps_no_more_than_there_are",
    ),
    "server-optimizer.parameter": (
        _API,
        "lanfit_server/methods/test_server_optimizers.py::test_a_parameter_out_of_its_range_is_refused",
    ),
    "server-optimizer.not-taken": (
        _API,
        "lanfit_server/methods/test_server_optimizers.py::test_a_parameter_that_a_strategy_does_not_have_is_refused",
    ),
    "compile.learning-rate": (
        _CHECKED,
        "lanfit/models/test_compiling.py::test_a_learning_rate_that_is_none_is_refused",
    ),
    "backend.unknown": (
        _CHECKED,
        "lanfit/test_backends.py::test_a_backend_that_is_not_installed_is_named_with_the_line_that_installs_it",
    ),
    **dict.fromkeys(
        (
            "batch.row-shape",
            "batch.not-finite",
            "batch.targets-not-finite",
            "batch.one-hot-targets",
            "batch.no-labels",
            "batch.labels-outside",
            "batch.class-numbers",
            "batch.target-shape",
        ),
        (
            _CHECKED,
            "lanfit/models/test_checking_batches.py::test_what_is_found_before_in_files_is_found_in_a_batch_too",
        ),
    ),
    "training.weight-not-finite": (
        "a loss that is no number ends nearly every training before: only its very last step can do it",
        "lanfit/training/test_loop.py::test_weights_that_are_no_numbers_are_not_given_back",
    ),
    "job.same-signs": (_READER, "lanfit/settings/test_job.py::test_a_sign_in_numbers_has_one_meaning"),
    "job.no-dataset": (_CHECKED, "lanfit/settings/test_job.py::test_a_job_on_a_set_of_keras_names_it"),
    "model.out-of-memory": (
        _MEMORY,
        "lanfit_server/models/test_model_process.py::test_memory_that_does_not_suffice_is_an_answer",
    ),
    "model-process.keeps-dying": (
        _MEMORY,
        "lanfit_server/models/test_model_process_deaths.py::test_a_request_that_kills_process_after_process_is_given_up_with_the_reason_and_the_last_lines",
    ),
    "file.reader-endless": (
        "what keeps a reader busy for ever takes its three minutes to be found",
        "lanfit/core/test_processor_time.py::test_a_reader_that_was_ended_so_is_reported_in_words",
    ),
    "model.endless": (
        "a file that keeps HDF5 busy for ever takes its three minutes to be found",
        "lanfit_server/models/test_model_process_deaths.py::test_a_model_file_that_is_never_read_is_refused_and_the_next_is_read",
    ),
    "resume.damaged-ledger": (
        "it takes a ledger that SQLite has written, and one changed byte",
        "lanfit_server/methods/test_damage.py::test_a_ledger_with_other_bytes_is_refused_wherever_they_are",
    ),
    "summary.damaged": (
        "it takes a run that has ended, and one changed byte",
        "lanfit_server/methods/test_damage.py::test_a_summary_that_can_not_be_read_is_named_with_where_the_models_are",
    ),
    **dict.fromkeys(
        ("file.reader-died", "file.reader-killed", "file.reader-memory"),
        (_READER, "lanfit_server/data/test_reading.py::test_a_file_that_ends_what_reads_it_is_named"),
    ),
    "model.changed": (
        "the model process has to be killed at one moment",
        "lanfit_server/models/test_model_process_deaths.py::test_a_model_file_that_is_another_by_then_is_refused",
    ),
    "training.out-of-memory": (
        _MEMORY,
        "lanfit/training/test_trainer_errors.py::test_an_exception_is_reported_in_the_words_of_the_table",
    ),
    "training.failed": (
        "what backends raise on a batch shows before a client trains; this is for what nobody has thought of",
        "lanfit/training/test_trainer_errors.py::test_an_exception_is_reported_in_the_words_of_the_table",
    ),
    **{
        f"own-data.{code}": (
            "it takes rows that are too few, or a server that lies",
            f"hostile/test_hostile_server.py::{test}",
        )
        for code, test in {
            "few-rows": "test_fewer_training_rows_than_the_minimum_are_refused_in_a_survey_and_in_a_task",
            "few-to-score": "test_a_server_can_not_draw_few_rows_out_of_many",
            "small-batch": "test_a_server_can_not_draw_few_rows_out_of_many",
        }.items()
    },
    "own-data.several": (
        "two clients have to be wrong at a time",
        "lanfit_server/run/test_client_data_faults.py::test_without_a_terminal_all_faults_are_collected_and_end_it_together",
    ),
    "survey.no-answer": (
        "a client has to be silent for as long as --deadline",
        "lanfit_server/run/test_client_data_faults.py::test_a_client_that_never_tells_is_not_waited_for_beyond_the_deadline",
    ),
    "survey.other-target-columns": (
        "a model that takes any number of targets takes as many inputs, which are compared before",
        "lanfit_server/data/test_survey.py::test_targets_of_other_columns_are_named_where_the_model_would_take_them",
    ),
    "survey.other-targets": (
        _LIES,
        "lanfit_server/data/test_survey.py::test_what_no_files_can_hold_is_refused_and_the_client_is_named",
    ),
    "survey.impossible-labels": (
        _LIES,
        "lanfit_server/data/test_survey.py::test_what_no_files_can_hold_is_refused_and_the_client_is_named",
    ),
    "survey.no-numbers": (
        _LIES,
        "lanfit_server/data/test_survey.py::test_what_no_files_can_hold_is_refused_and_the_client_is_named",
    ),
    "survey.other-shape": (
        _LIES,
        "lanfit_server/data/test_survey.py::test_what_no_files_can_hold_is_refused_and_the_client_is_named",
    ),
    "survey.too-large": (_LIES, "hostile/test_surveys.py::test_a_client_with_a_value_of_1e300_is_named_with_the_value"),
    "survey.impossible-statistics": (
        _LIES,
        "lanfit_server/data/test_survey.py::test_what_no_files_can_hold_is_refused_and_the_client_is_named",
    ),
    "custom.no-file": (_CUSTOM, "lanfit/models/test_custom.py::test_what_is_no_readable_python_is_refused"),
    "custom.not-python": (_CUSTOM, "lanfit/models/test_custom.py::test_what_is_no_readable_python_is_refused"),
    "custom.unreadable": (_CUSTOM, "lanfit/models/test_custom.py::test_what_is_no_readable_python_is_refused"),
    "custom.too-large": (_CUSTOM, "lanfit/models/test_custom.py::test_what_is_no_readable_python_is_refused"),
    "custom.failed": (_CUSTOM, "lanfit/models/test_custom.py::test_a_file_that_fails_is_named_with_its_line"),
    "custom.two-of-a-name": (
        _CUSTOM,
        "lanfit/models/test_custom.py::test_two_files_that_define_the_same_name_are_refused",
    ),
    "custom.changed": (
        _CUSTOM,
        "lanfit_server/models/test_custom_files.py::test_a_job_keeps_where_its_files_are_and_what_was_in_them",
    ),
    "custom.missing": (
        _CUSTOM,
        "lanfit/models/test_custom.py::test_a_class_that_the_file_does_not_define_is_named_with_the_file",
    ),
    "custom.keras-name": (
        _CUSTOM,
        "lanfit/models/test_custom.py::test_a_class_with_the_name_of_a_layer_of_keras_takes_nobodys_place",
    ),
    "custom.own-training": (_CUSTOM, "lanfit/models/test_custom.py::test_a_method_of_training_of_ones_own_is_named"),
    "custom.not-allowed": (
        _CUSTOM,
        "lanfit_client/test_custom_items.py::test_a_server_that_names_files_which_are_not_allowed_here_gets_nothing_executed",
    ),
    "custom.other-file": (
        _CUSTOM,
        "lanfit_client/test_custom_items.py::test_a_server_that_names_files_which_are_not_allowed_here_gets_nothing_executed",
    ),
    "custom.no-source": (
        _PYTHON,
        "lanfit_server/api/test_api_custom_objects.py::test_what_a_notebook_a_script_or_a_function_defines_is_to_be_moved_to_a_file",
    ),
    "custom.not-named": (
        _PYTHON,
        "lanfit_server/api/test_api_custom_objects.py::test_machines_of_the_lan_must_be_told_of_the_file",
    ),
    "custom.no-module": (_PYTHON, "lanfit_server/api/test_api_custom_objects.py::test_what_names_no_file_is_refused"),
    "custom.not-serializable": (
        _PYTHON,
        "lanfit_server/api/test_api_custom_objects.py::test_a_subclassed_model_that_keras_can_not_write_down_is_refused_in_a_sentence",
    ),
    "model.not-called": (
        _PYTHON,
        "lanfit_server/api/test_api_custom_objects.py::test_a_subclassed_model_that_can_not_be_called_on_the_rows_is_refused_before_anything_is_sent",
    ),
}


def codes_in(tree: ast.AST) -> set[str]:
    """The codes that a piece of a test names."""
    names = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return names & set(ERRORS)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_every_error_is_triggered_from_the_outside() -> None:
    outside = set[str]().union(*(codes_in(parsed(path)) for path in OUTSIDE))
    assert outside | set(INSIDE) == set(ERRORS)
    assert not outside & set(INSIDE), "these need no reason any more"


@pytest.mark.parametrize("code", sorted(INSIDE))
def test_what_can_not_be_triggered_from_the_outside_is_triggered_inside(code: str) -> None:
    """The test that is named is there, and names the code."""
    _, where = INSIDE[code]
    file, _, name = where.partition("::")
    tests = {node.name: node for node in parsed(TESTS / file).body if isinstance(node, ast.FunctionDef)}
    assert name in tests, f"there is no test {where}"
    assert code in codes_in(tests[name]), f"{where} does not name {code}"
