-- The steps of durable functions: what each gave, so that it is never done again.
--
-- Guarantees: a step of an agent has one result, the first that was recorded; rows are never
-- changed. A result is JSON of at most 1 MB.

create domain bough.step_result as jsonb
  constraint step_result_fits check (octet_length(value::text) <= 1000000);
create table bough.steps (
  root_id uuid not null,
  agent_id uuid not null constraint agent_exists references bough.agents,
  number bough.positive not null, word bough.label not null, name bough.label,
  result bough.step_result not null, recorded_at timestamptz not null default bough.now(),
  constraint steps_pkey primary key (root_id, agent_id, number)
);
comment on table bough.steps is 'What functions have done, for when they start again.';
comment on column bough.steps.number is 'Counted by the function from 1 in each of its starts.';
comment on column bough.steps.word is 'What was asked: spawn, wait, step.';
comment on column bough.steps.name is 'Of what: a task, a name, ids; null: nothing to tell.';
comment on column bough.steps.result is 'What it gave, {"value": V}, or raised, {"error": {…}}.';
