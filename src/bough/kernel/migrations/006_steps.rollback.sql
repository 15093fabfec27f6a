-- Takes back 006_steps.sql: functions that were under way begin anew.

drop table bough.steps;
drop domain bough.step_result;
