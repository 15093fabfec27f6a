-- Ports that agents asked for: a number for each, so that their servers do not get into each
-- other's way.
--
-- Guarantees: on one machine a port is given to one agent at a time, whichever runner gives it.
-- It is free again when its agent has ended; nothing has to remember to give it back.

create domain bough.port as integer
  constraint port_is_unprivileged check (value between 1024 and 65535);
create table bough.ports (
  host bough.label not null, port bough.port not null,
  root_id uuid not null, agent_id uuid not null constraint agent_exists references bough.agents,
  constraint one_agent_per_port primary key (host, port)
);
comment on table bough.ports is 'Which agent a port of a machine is given to, until it has ended.';
create index ports_of_agent on bough.ports (root_id, agent_id);
