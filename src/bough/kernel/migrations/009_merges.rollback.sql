-- Takes back 009_merges.sql: what is queued is forgotten, what landed stays in git and workspaces.

drop table bough.merges;
drop function bough.record_merge_state();
drop domain bough.gate_output, bough.merge_strategy, bough.merge_status;
