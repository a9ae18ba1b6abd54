"""No key and no option is without effect: each has a test that proves that it acts, and the table says which.

Keys come from the shapes of the topology file, options from the commands, so a new one without a proof fails here. Add
a line: the test that fails when the key or option does nothing. It must exist, and mention the key or option.
"""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import click
import pytest

from tierlb.cli.main import main
from tierlb.cli.verbs import COMMANDS
from tierlb.topology.shapes import FileShape
from tierlb.topology.typed import form_of, is_mapping, keys_of

TESTS = Path(__file__).parent
DEPTH = 3
"""A test mentions what its helpers, constants and fixtures mention, and what those do."""

KEYS = {
    "admin.hosts": "cli/test_up.py::test_the_url_of_the_admin_api_is_one_that_it_serves",
    "admin.tls": "admin/test_app.py::test_with_tls_commands_reach_it_by_https_if_they_know_who_signed_its_certificate",
    "admintls.certificate": "admin/test_app.py::"
    "test_with_tls_commands_reach_it_by_https_if_they_know_who_signed_its_certificate",
    "admintls.key": "admin/test_app.py::"
    "test_with_tls_commands_reach_it_by_https_if_they_know_who_signed_its_certificate",
    "admin.listen": "deploy/test_kubernetes_pods.py::test_the_api_listens_where_the_file_says",
    "certificate.certificate": "net/test_server_tls.py::test_files_that_cannot_be_served_are_named",
    "certificate.key": "net/test_server_tls.py::test_files_that_cannot_be_served_are_named",
    "endpoint.admin": "topology/test_allot.py::test_what_is_wanted_of_an_endpoint_reaches_those_that_send_to_it",
    "endpoint.weight": "topology/test_allot.py::test_what_is_wanted_of_an_endpoint_reaches_those_that_send_to_it",
    "file.admin": "cli/test_controller.py::"
    "test_nodes_that_somebody_else_starts_make_a_cluster_that_outlives_its_controller",
    "file.cluster": "cluster/test_starting.py::test_a_cluster_that_starts_says_what_it_waits_for",
    "file.pools": "cluster/test_starting.py::test_a_cluster_that_starts_says_what_it_waits_for",
    "file.security": "cluster/test_starting.py::test_with_security_nodes_and_controller_speak_tls",
    "file.store": "cli/test_controller.py::"
    "test_with_tls_and_a_user_a_second_controller_takes_over_what_the_first_one_stored",
    "file.tiers": "cluster/test_starting.py::test_a_cluster_that_starts_says_what_it_waits_for",
    "hashon.header": "dataplane/l7/test_config.py::test_maglev_goes_by_the_field_that_is_named",
    "health.grpc": "dataplane/upstream/test_health.py::"
    "test_a_server_that_stops_serving_leaves_the_choice_and_comes_back",
    "health.healthy": "dataplane/upstream/test_health.py::test_a_real_endpoint_that_flaps_is_followed",
    "health.host": "dataplane/upstream/test_health.py::test_the_request_is_a_plain_get_that_says_who_asks",
    "health.interval": "dataplane/upstream/test_health.py::test_endpoints_are_checked_at_their_pace_and_out_of_step",
    "health.path": "dataplane/upstream/test_health.py::test_the_request_is_a_plain_get_that_says_who_asks",
    "health.status": "dataplane/upstream/test_health.py::test_the_status_decides_however_the_answer_comes",
    "health.timeout": "dataplane/upstream/test_health.py::test_a_full_backlog_is_a_bad_connect",
    "health.unhealthy": "dataplane/upstream/test_health.py::test_a_real_endpoint_that_flaps_is_followed",
    "limits.body": "dataplane/l7/test_request_half.py::test_a_length_over_the_cap_is_413_and_reaches_no_member",
    "limits.body_rate": "dataplane/l7/test_request_half.py::test_a_body_slower_than_the_least_rate_is_408",
    "limits.connections": "dataplane/test_connection_cap.py::test_kept_connections_give_way_to_new_ones_in_order",
    "limits.head": "dataplane/l7/test_client.py::test_a_target_may_be_as_long_as_the_head",
    "limits.headers": "dataplane/l7/test_client.py::test_large_heads_are_refused",
    "match.alpn": "dataplane/l4/test_hello.py::test_a_client_gets_the_host_of_its_name_or_protocol",
    "listener.tls": "dataplane/test_tls.py::test_each_listener_speaks_tls_of_its_own_or_none",
    "listenertls.alpn": "net/test_server_tls.py::test_protocols_are_offered_as_the_file_says",
    "listenertls.certificates": "net/test_server_tls.py::"
    "test_the_name_that_a_client_asks_for_chooses_exactly_by_a_wildcard_or_the_first",
    "listenertls.client_ca": "dataplane/test_tls.py::test_a_client_without_a_certificate_of_the_authority_is_refused",
    "listenertls.client_certificates": "dataplane/test_tls.py::test_nobody_poses_as_one_who_showed_a_certificate",
    "listenertls.minimum": "net/test_server_tls.py::test_the_oldest_version_is_the_one_that_the_file_says",
    "match.headers": "dataplane/l7/test_routes.py::test_headers",
    "match.host": "dataplane/l7/test_routes.py::test_hosts",
    "match.method": "dataplane/l7/test_routes.py::test_methods",
    "match.path": "dataplane/l7/test_routes.py::test_paths",
    "match.path_prefix": "dataplane/l7/test_routes.py::test_every_condition_must_hold",
    "match.port": "dataplane/l4/test_hello.py::test_the_port_is_the_one_that_the_client_connected_to",
    "match.query": "dataplane/l7/test_routes.py::test_queries",
    "match.sni": "dataplane/l4/test_hello.py::test_a_client_gets_the_host_of_its_name_or_protocol",
    "match.source": "dataplane/l4/test_hello.py::test_where_addresses_decide_nothing_is_awaited",
    "pool.protocol": "clients/test_grpc.py::test_calls_of_one_connection_are_spread_by_themselves",
    "pool.agent_check": "dataplane/test_host_checks.py::test_without_an_agent_check_no_agents_word_holds",
    "pool.agents": "cli/test_agent.py::test_an_app_joins_by_its_agent_gets_traffic_and_leaves_without_losing_any",
    "pool.dns": "dataplane/test_plane.py::test_what_is_found_stays_over_snapshots_and_is_checked",
    "pool.endpoints": "cli/test_controller.py::"
    "test_nodes_that_somebody_else_starts_make_a_cluster_that_outlives_its_controller",
    "pool.health": "dataplane/test_plane.py::test_what_is_found_stays_over_snapshots_and_is_checked",
    "pool.overrides": "topology/test_allot.py::test_what_is_wanted_of_an_endpoint_reaches_those_that_send_to_it",
    "pool.run": "cluster/test_starting.py::test_a_cluster_that_starts_says_what_it_waits_for",
    "pool.tls": "dataplane/upstream/test_endpoint_tls.py::test_requests_go_over_tls_and_connections_are_kept",
    "pooltls.ca": "dataplane/upstream/test_endpoint_tls.py::test_an_endpoint_that_cannot_prove_itself_gets_no_request",
    "pooltls.certificate": "dataplane/upstream/test_endpoint_tls.py::test_the_nodes_own_certificate_is_shown",
    "pooltls.key": "dataplane/upstream/test_endpoint_tls.py::test_the_nodes_own_certificate_is_shown",
    "pooltls.server_name": "dataplane/upstream/test_endpoint_tls.py::"
    "test_an_endpoint_that_cannot_prove_itself_gets_no_request",
    "pooltls.verify": "dataplane/upstream/test_endpoint_tls.py::test_without_verify_any_certificate_is_taken",
    "redirect.location": "dataplane/l7/test_rule_answers.py::test_redirect_fills_in_the_request",
    "redirect.status": "dataplane/l7/test_rule_answers.py::test_redirect_fills_in_the_request",
    "resources.cpus": "deploy/test_compose.py::test_limits_are_written_as_compose_has_them",
    "resources.memory": "deploy/test_compose.py::test_limits_are_written_as_compose_has_them",
    "respond.body": "dataplane/l7/test_rule_answers.py::test_respond_says_what_the_file_says",
    "respond.content_type": "dataplane/l7/test_rule_answers.py::test_respond_says_what_the_file_says",
    "respond.status": "dataplane/l7/test_rule_answers.py::test_respond_says_what_the_file_says",
    "route.match": "dataplane/l7/test_routes.py::test_the_first_rule_that_matches_decides",
    "route.redirect": "dataplane/l7/test_rule_answers.py::test_redirect_fills_in_the_request",
    "route.respond": "dataplane/l7/test_rule_answers.py::test_respond_says_what_the_file_says",
    "route.to": "cluster/test_examples.py::test_an_example_serves_requests_through_its_whole_tree",
    "run.command": "local/test_local_endpoints.py::test_a_command_may_ask_where_it_is_to_listen",
    "run.image": "deploy/test_compose.py::test_another_image_runs_the_whole_command_as_its_own_user",
    "run.replicas": "cluster/test_verbs.py::test_a_cluster_is_changed_by_its_verbs_and_nobody_notices",
    "run.resources": "deploy/test_kubernetes_pods.py::test_limits_are_what_the_file_says",
    "security.tls": "cluster/test_starting.py::test_with_security_nodes_and_controller_speak_tls",
    "store.ca": "controller/test_etcd_access.py::test_with_tls_a_member_must_be_trusted_and_be_who_was_called",
    "store.certificate": "controller/test_etcd.py::test_where_certificates_do_not_fit_it_is_said_which",
    "store.etcd": "cli/test_controller.py::"
    "test_with_tls_and_a_user_a_second_controller_takes_over_what_the_first_one_stored",
    "store.key": "cli/test_controller.py::test_a_store_that_does_not_let_it_in_ends_a_controller_with_what_to_do",
    "store.password_file": "controller/test_etcd.py::test_who_is_not_let_in_hears_what_to_do",
    "store.user": "cli/test_controller.py::test_a_store_that_does_not_let_it_in_ends_a_controller_with_what_to_do",
    "tier.agent_check": "dataplane/test_agent_replies.py::test_a_node_answers_agent_checks_where_the_snapshot_says",
    "tier.balance": "cluster/test_weights.py::test_the_usual_policy_goes_by_the_weights_of_the_file",
    "tier.client_abort": "dataplane/l7/test_abort.py::test_with_finish_it_is_finished",
    "tier.cpus": "cluster/test_cores.py::test_nodes_run_on_the_cpus_of_their_tier_and_move_when_these_change",
    "tier.drain": "local/test_local_endpoints.py::"
    "test_a_process_is_killed_when_the_drain_time_of_its_tier_is_well_over",
    "tier.forward": "dataplane/l4/test_handoff.py::test_the_tier_says_how_connections_get_to_a_host",
    "tier.hash_on": "topology/test_build.py::test_what_steers_choosing_reaches_the_model",
    "tier.kind": "dataplane/test_plane.py::test_a_node_keeps_its_kind",
    "tier.limits": "dataplane/test_plane.py::test_a_raised_cap_takes_effect_with_its_snapshot",
    "listener.address": "cluster/test_listeners.py::test_a_tier_serves_wherever_it_listens",
    "listener.mode": "cluster/test_listeners.py::test_listeners_come_go_and_change_beside_others",
    "listener.redirect_https": "cluster/test_listeners.py::test_one_listener_of_a_tier_sends_all_to_https",
    "acceptproxy.accept_from": "clients/test_proxy_protocol.py::test_clients_are_announced_from_end_to_end",
    "listener.proxy_protocol": "topology/test_build.py::test_a_listener_may_have_balancers_of_its_own_above",
    "tier.proxy_protocol": "clients/test_proxy_protocol.py::test_clients_are_announced_from_end_to_end",
    "pool.proxy_protocol": "clients/test_proxy_protocol.py::test_clients_are_announced_from_end_to_end",
    "tier.listen": "cluster/test_examples.py::test_several_edges_share_one_port",
    "tier.orca": "dataplane/test_upkeep.py::test_its_load_is_said_in_the_form_that_the_snapshot_names",
    "tier.paths": "dataplane/l7/test_routes.py::"
    "test_as_sent_compares_bytes_and_knows_no_prefix_of_a_path_with_dot_segments",
    "tier.protocol": "topology/test_allot.py::"
    "test_a_tier_over_udp_listens_for_datagrams_at_its_public_port_and_for_parents",
    "tier.responses": "dataplane/l4/test_udp_session.py::test_a_session_ends_when_all_that_was_asked_is_answered",
    "tier.replicas": "cluster/test_examples.py::test_several_edges_share_one_port",
    "tier.resources": "deploy/test_kubernetes_pods.py::test_limits_are_what_the_file_says",
    "tier.routes": "cluster/test_hangup.py::test_a_hangup_has_the_file_read_again",
    "tier.timeouts": "dataplane/l4/test_relay.py::test_a_connection_on_which_nothing_moves_is_cut",
    "tier.forwarded": "dataplane/l7/test_client_identity.py::test_endpoints_get_the_client_as_forwarded",
    "tier.tls": "dataplane/test_tls.py::test_requests_come_over_tls_and_endpoints_learn_it",
    "tier.to": "cluster/test_examples.py::test_an_example_serves_requests_through_its_whole_tree",
    "tier.trusted_peers": "dataplane/l7/test_client_identity.py::test_claims_of_a_trusted_peer_are_kept_and_completed",
    "timeouts.connect": "dataplane/l7/test_retry.py::test_a_member_that_does_not_accept_in_time_is_504",
    "timeouts.head": "dataplane/l7/test_client.py::test_a_head_that_does_not_end_in_time_is_408",
    "timeouts.idle": "dataplane/l7/test_kept_stream.py::test_a_kept_client_is_closed_when_the_idle_time_is_over",
    "timeouts.response": "dataplane/l7/test_exchange.py::test_a_member_that_does_not_answer_in_time_is_504",
    "timeouts.stream": "dataplane/l7/test_exchange.py::test_a_member_that_stalls_in_its_answer_is_cut_off",
    "tls.ca": "cluster/test_starting.py::test_with_security_nodes_and_controller_speak_tls",
    "tls.certificate": "cluster/test_starting.py::test_with_security_nodes_and_controller_speak_tls",
    "tls.key": "cluster/test_starting.py::test_with_security_nodes_and_controller_speak_tls",
    "agents.networks": "controller/test_registry.py::"
    "test_an_application_is_where_its_agent_is_unless_its_pool_allows_more",
    "health.outlier": "clients/test_outliers.py::"
    "test_a_server_that_fails_is_left_out_and_comes_back_when_it_has_healed",
    "outlier.base_ejection": "clients/test_outliers.py::"
    "test_a_server_that_fails_is_left_out_and_comes_back_when_it_has_healed",
    "outlier.consecutive_errors": "dataplane/upstream/test_outliers.py::"
    "test_a_run_no_longer_than_those_that_siblings_got_over_is_no_sign",
    "outlier.consecutive_gateway_errors": "dataplane/upstream/test_outliers.py::"
    "test_fewer_gateway_errors_may_be_enough",
    "outlier.interval": "dataplane/upstream/test_outliers.py::test_a_low_success_rate_ejects_once_an_interval_is_over",
    "outlier.max_ejected": "dataplane/upstream/test_outliers.py::test_no_more_are_out_at_once_than_the_pool_allows",
    "outlier.success_rate": "dataplane/upstream/test_outliers.py::test_success_rates_are_left_alone_where_they_are_off",
}
"""By the mapping that has the key, as the schema calls it."""

OPTIONS = {
    "agent --address": "cli/test_agent.py::test_an_app_joins_by_its_agent_gets_traffic_and_leaves_without_losing_any",
    "agent --cgroup": "cli/test_agent.py::test_each_option_reaches_what_it_is_for",
    "agent --cores": "cli/test_agent.py::test_each_option_reaches_what_it_is_for",
    "agent --drain-time": "cli/test_agent.py::test_each_option_reaches_what_it_is_for",
    "agent --join": "cli/test_agent.py::test_an_app_joins_by_its_agent_gets_traffic_and_leaves_without_losing_any",
    "agent --join-file": "cli/test_join.py::test_what_does_not_go_together_is_wrong_usage",
    "agent --name": "cli/test_agent.py::test_an_app_joins_by_its_agent_gets_traffic_and_leaves_without_losing_any",
    "agent --pid": "cli/test_agent.py::test_each_option_reaches_what_it_is_for",
    "agent --pool": "cli/test_agent.py::test_an_app_joins_by_its_agent_gets_traffic_and_leaves_without_losing_any",
    "agent --slots": "cli/test_agent.py::test_each_option_reaches_what_it_is_for",
    "agent --tls-ca": "cli/test_agent.py::test_each_option_reaches_what_it_is_for",
    "agent --tls-certificate": "cli/test_agent.py::test_each_option_reaches_what_it_is_for",
    "agent --tls-key": "cli/test_agent.py::test_each_option_reaches_what_it_is_for",
    "agent --token-file": "cli/test_agent.py::test_each_option_reaches_what_it_is_for",
    "agent --url": "cli/test_agent.py::test_an_app_joins_by_its_agent_gets_traffic_and_leaves_without_losing_any",
    "check --json": "cli/test_check.py::test_problems_are_json_with_their_places_and_the_exit_code_stays",
    "compose --image": "cli/test_compose.py::test_without_a_directory_the_file_is_printed_and_nothing_written",
    "compose --output": "cli/test_compose.py::test_a_directory_gets_all_that_it_takes_to_start",
    "controller --admin-listen": "cli/test_controller.py::"
    "test_with_tls_and_a_user_a_second_controller_takes_over_what_the_first_one_stored",
    "controller --admin-token-file": "cli/test_controller.py::test_each_option_reaches_what_it_is_for",
    "controller --listen": "cli/test_controller.py::"
    "test_with_tls_and_a_user_a_second_controller_takes_over_what_the_first_one_stored",
    "controller --name": "cli/test_controller.py::"
    "test_with_tls_and_a_user_a_second_controller_takes_over_what_the_first_one_stored",
    "controller --run-dns": "cli/test_controller.py::test_each_option_reaches_what_it_is_for",
    "controller --state": "cli/test_controller.py::test_two_cannot_have_one_directory",
    "controller --token-file": "cli/test_controller.py::"
    "test_with_tls_and_a_user_a_second_controller_takes_over_what_the_first_one_stored",
    "demo-backend --fixed": "cli/test_commands.py::test_each_option_of_the_demo_backend_reaches_it",
    "demo-backend --host": "cli/test_commands.py::test_each_option_of_the_demo_backend_reaches_it",
    "demo-backend --name": "cli/test_commands.py::test_each_option_of_the_demo_backend_reaches_it",
    "demo-backend --orca": "cli/test_commands.py::test_each_option_of_the_demo_backend_reaches_it",
    "demo-backend --port": "cli/test_commands.py::test_each_option_of_the_demo_backend_reaches_it",
    "demo-backend --seed": "cli/test_commands.py::test_each_option_of_the_demo_backend_reaches_it",
    "demo-backend --service": "cli/test_commands.py::test_each_option_of_the_demo_backend_reaches_it",
    "demo-backend --slots": "cli/test_commands.py::test_each_option_of_the_demo_backend_reaches_it",
    "dev-certificate --days": "cli/test_certificate.py::test_names_and_days_are_those_that_were_asked_for",
    "dev-certificate --output": "cli/test_certificate.py::test_names_and_days_are_those_that_were_asked_for",
    "down --state": "cli/test_detach.py::test_where_nothing_runs_down_says_so",
    "explain --ca": "cli/test_verbs.py::test_each_command_asks_with_the_files_that_were_named",
    "explain --token-file": "cli/test_verbs.py::test_each_command_asks_with_the_files_that_were_named",
    "explain --admin": "cli/test_explain.py::test_fields_and_method_are_as_given",
    "explain --header": "cli/test_explain.py::test_fields_and_method_are_as_given",
    "explain --json": "cli/test_explain.py::test_json_tells_what_is_missing_too",
    "explain --alpn": "cli/test_explain_route.py::test_the_routes_of_all_l4_tiers_on_the_way_are_found",
    "explain --port": "cli/test_explain_route.py::test_the_routes_of_all_l4_tiers_on_the_way_are_found",
    "explain --sni": "cli/test_explain_route.py::test_the_routes_of_all_l4_tiers_on_the_way_are_found",
    "explain --source": "cli/test_explain_route.py::test_the_routes_of_all_l4_tiers_on_the_way_are_found",
    "explain --method": "cli/test_explain.py::test_fields_and_method_are_as_given",
    "kubernetes --edge": "cli/test_kubernetes.py::test_each_option_shows_in_the_objects",
    "kubernetes --image": "cli/test_kubernetes.py::test_each_option_shows_in_the_objects",
    "kubernetes --max-replicas": "cli/test_kubernetes.py::test_each_option_shows_in_the_objects",
    "kubernetes --metrics-from": "cli/test_kubernetes.py::test_the_namespace_that_reads_metrics_is_let_in",
    "kubernetes --namespace": "cli/test_kubernetes.py::test_each_option_shows_in_the_objects",
    "kubernetes --output": "cli/test_kubernetes.py::test_a_file_gets_what_would_be_printed",
    "kubernetes --prefix": "cli/test_kubernetes.py::test_each_option_shows_in_the_objects",
    "node --advertise": "cli/test_node.py::test_each_option_reaches_what_it_is_for",
    "node --control-listen": "cli/test_node.py::test_each_option_reaches_what_it_is_for",
    "node --control-name": "cli/test_node.py::test_each_option_reaches_what_it_is_for",
    "node --data-port": "cli/test_node.py::test_each_option_reaches_what_it_is_for",
    "node --handoff": "cli/test_node.py::test_each_option_reaches_what_it_is_for",
    "node --host": "cli/test_node.py::test_each_option_reaches_what_it_is_for",
    "node --join": "cli/test_node.py::test_each_option_reaches_what_it_is_for",
    "node --join-file": "cli/test_join.py::test_what_does_not_go_together_is_wrong_usage",
    "node --name": "cli/test_node.py::test_each_option_reaches_what_it_is_for",
    "node --state": "cli/test_node.py::test_each_option_reaches_what_it_is_for",
    "node --tier": "cli/test_node.py::test_each_option_reaches_what_it_is_for",
    "node --tls-ca": "cli/test_node.py::test_each_option_reaches_what_it_is_for",
    "node --tls-certificate": "cli/test_node.py::test_each_option_reaches_what_it_is_for",
    "node --tls-key": "cli/test_node.py::test_each_option_reaches_what_it_is_for",
    "node --token-file": "cli/test_node.py::test_each_option_reaches_what_it_is_for",
    "status --ca": "cli/test_verbs.py::test_each_command_asks_with_the_files_that_were_named",
    "status --token-file": "cli/test_verbs.py::test_each_command_asks_with_the_files_that_were_named",
    "status --admin": "cli/test_status.py::test_the_table_has_a_row_for_each_node_and_endpoint",
    "status --json": "cli/test_status.py::test_json_is_what_the_api_answered",
    "tier add --above": "cli/test_verbs.py::test_each_verb_is_sent",
    "tier add --below": "cli/test_verbs.py::test_each_verb_is_sent",
    "tier add --between": "cli/test_verbs.py::test_each_verb_is_sent",
    "tier add --kind": "cli/test_verbs.py::test_each_verb_is_sent",
    "tier add --policy": "cli/test_verbs.py::test_each_verb_is_sent",
    "tier add --replicas": "cli/test_verbs.py::test_each_verb_is_sent",
    "top --ca": "cli/test_verbs.py::test_each_command_asks_with_the_files_that_were_named",
    "top --token-file": "cli/test_verbs.py::test_each_command_asks_with_the_files_that_were_named",
    "top --admin": "cli/test_top.py::test_json_is_what_the_api_answered",
    "top --interval": "cli/test_top.py::test_it_asks_as_often_as_it_is_told",
    "top --json": "cli/test_top.py::test_json_is_what_the_api_answered",
    "top --once": "cli/test_top.py::test_without_a_terminal_or_when_asked_it_prints_once",
    "up --detach": "cli/test_example.py::test_a_tour_leaves_the_example_as_it_was_and_edits_the_copy",
    "up --ready-fd": "cli/test_example.py::test_a_tour_leaves_the_example_as_it_was_and_edits_the_copy",
    "up --state": "cluster/test_starting.py::test_a_cluster_that_starts_says_what_it_waits_for",
    "up --watch": "cluster/test_verbs.py::test_a_file_that_is_watched_is_applied_as_it_is_edited",
    "verb --admin": "cli/test_verbs.py::test_each_verb_is_sent",
    "verb --ca": "cli/test_verbs.py::test_each_command_asks_with_the_files_that_were_named",
    "verb --compose": "cli/test_deploy.py::"
    "test_containers_come_while_the_change_is_under_way_and_the_file_is_what_counts_in_the_end",
    "verb --deadline": "cli/test_change.py::test_a_file_is_sent_as_it_is_and_all_that_was_said_beside_it",
    "verb --dry-run": "cli/test_change.py::test_a_file_is_sent_as_it_is_and_all_that_was_said_beside_it",
    "verb --expected": "cli/test_change.py::test_a_file_is_sent_as_it_is_and_all_that_was_said_beside_it",
    "verb --json": "cli/test_change.py::test_programs_get_the_end_of_it",
    "verb --token-file": "cli/test_verbs.py::test_each_verb_is_sent",
    "verb --why": "cli/test_change.py::test_a_file_is_sent_as_it_is_and_all_that_was_said_beside_it",
    "agent --token-fd": "cli/test_tokens.py::test_a_descriptor_without_a_token_ends_the_command",
    "node --token-fd": "cli/test_tokens.py::test_a_descriptor_without_a_token_ends_the_command",
    "token --name": "cli/test_tokens.py::test_a_token_is_derived_for_a_role_and_bound_to_what_is_asked_for",
    "token --output": "cli/test_tokens.py::test_a_file_is_written_for_its_owner_alone_and_nothing_is_overwritten",
    "token --pool": "cli/test_tokens.py::test_a_token_is_derived_for_a_role_and_bound_to_what_is_asked_for",
    "token --role": "cli/test_tokens.py::test_a_token_is_derived_for_a_role_and_bound_to_what_is_asked_for",
    "token --tier": "cli/test_tokens.py::test_a_token_is_derived_for_a_role_and_bound_to_what_is_asked_for",
    "token --token-file": "cli/test_tokens.py::test_a_token_is_derived_for_a_role_and_bound_to_what_is_asked_for",
}
"""By the command. `verb` stands for all commands of cli/verbs.py, which share these options by a decorator."""

UNMENTIONED = {"up --ready-fd": "--detach"}
"""An option that a person cannot give is proved by the one that gives it."""


def keys_of_the_file() -> Iterator[str]:
    """Each as `mapping.key`."""
    waiting, seen = [FileShape], set[type]()
    while waiting:
        shape: Any = waiting.pop()
        if shape in seen:
            continue
        seen.add(shape)
        for name, key in keys_of(shape).items():
            yield f"{shape.__name__.removesuffix('Shape').lower()}.{name}"
            waiting += [part for part in parts(key.kind) if is_mapping(part)]


def parts(kind: Any) -> Iterator[Any]:
    """The type and whatever it is made of, down to single values."""
    yield kind
    for argument in () if form_of(kind) else get_args(kind):
        yield from parts(argument)


def options_of_the_commands() -> Iterator[str]:
    """Each as `command --option`; of shared ones the decorator's."""
    for path, command in commands(main, ()):
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                name = f"{' '.join(path)} {max(parameter.opts, key=len)}"
                shared = f"verb {max(parameter.opts, key=len)}"
                is_verb = path[0] in {verb.name for verb in COMMANDS}
                yield name if name in OPTIONS or not is_verb or shared not in OPTIONS else shared


def commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            each = command.get_command(context, name)
            assert each is not None
            yield from commands(each, (*path, name))
    else:
        yield path, command


@pytest.mark.parametrize("key", sorted(set(keys_of_the_file())))
def test_each_key_of_the_topology_file_has_a_test_that_proves_that_it_acts(key):
    assert key in KEYS, f"add to KEYS the test that fails if {key} does nothing"
    demand_mention(KEYS[key], key.rpartition(".")[2])


@pytest.mark.parametrize("option", sorted(set(options_of_the_commands())))
def test_each_option_of_the_commands_has_a_test_that_proves_that_it_acts(option):
    assert option in OPTIONS, f"add to OPTIONS the test that fails if {option} does nothing"
    demand_mention(OPTIONS[option], UNMENTIONED.get(option, option.rpartition(" ")[2]))


def test_the_tables_name_nothing_that_is_not_there():
    assert set(KEYS) - set(keys_of_the_file()) == set()
    assert set(OPTIONS) - set(options_of_the_commands()) == set()


def demand_mention(proof: str, word: str) -> None:
    file, _, name = proof.partition("::")
    sources = sources_of(TESTS / file)
    assert name in sources, f"there is no {proof}"
    plain = word.removeprefix("--").replace("-", "_")
    forms = "|".join(map(re.escape, {plain, plain.replace("_", "-")}))
    text = mentioned(name, sources)
    assert re.search(rf"(?<![a-z])(?:{forms})", text), f"{proof} does not mention {word}"


def mentioned(name: str, sources: dict[str, str]) -> str:
    """The source of a test and of what it uses of its module."""
    found, names = "", {name}
    for _ in range(DEPTH):
        text = "\n".join(sources[each] for each in sorted(names))
        found += text
        names = {each for each in re.findall(r"\w+", text) if each in sources}
    return found


@functools.cache
def sources_of(file: Path) -> dict[str, str]:
    """What the names at the top of a module stand for, decorators included."""
    text = file.read_text()
    lines, found = text.splitlines(), {}
    for node in ast.parse(text).body:
        first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
        source = "\n".join(lines[first - 1 : node.end_lineno])
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        for name in [getattr(node, "name", ""), *names]:
            found[name] = source
    found.pop("", None)
    return found
