-- Takes back 002_limits_and_mail_order.sql.

drop trigger numbering on bough.messages;
drop function bough.number_message();
drop trigger place_within_limits on bough.agents;
drop function bough.inherit_limits();
alter table bough.agents drop column depth_limit, drop column children_limit,
  drop column running_limit, drop column under_running_limit;
