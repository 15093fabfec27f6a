-- Takes back 003_runners_and_events.sql: the record of events and all captured output.

drop trigger record_change on bough.workspaces;
drop trigger record_change on bough.budgets;
drop trigger record_creation on bough.budgets;
drop trigger record_change on bough.agents;
drop trigger record_creation on bough.agents;
alter table bough.agents drop constraint runner_exists;
drop table bough.listeners, bough.logs, bough.log_tails, bough.events, bough.attempts,
  bough.runners;
drop function bough.record_workspace(), bough.record_budget(), bough.record_agent(),
  bough.refuse_change(), bough.hint(text[]);
drop domain bough.event_name;
