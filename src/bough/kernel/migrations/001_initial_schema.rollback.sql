-- Takes back 001_initial_schema.sql: every table of Bough and all that is in them.

drop table bough.checkpoints, bough.workspaces, bough.messages, bough.budgets, bough.hierarchies,
  bough.agents, bough.schema_migrations;
drop function bough.reclaim(), bough.allocate(), bough.change_status(), bough.extend_closure(),
  bough.take_place(), bough.touch(), bough.has_ended(text), bough.now();
drop domain bough.tokens, bough.allocation, bough.positive, bough.fraction, bough.label, bough.task,
  bough.object_id, bough.status, bough.priority, bough.delivery, bough.isolation;
drop schema bough;
