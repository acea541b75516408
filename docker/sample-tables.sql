-- A small hospital and the customers of a power company: what `docker compose up` has to show.
create table patients (
    id          integer primary key,
    name        text not null,
    born        date not null,
    ward        text,
    note        text,
    updated_at  timestamptz not null default now()
);
create table lab_results (
    id          bigint generated always as identity primary key,
    patient_id  integer not null references patients (id),
    test        text not null,
    value       numeric(10, 3) not null,
    unit        text not null,
    measured_at timestamptz not null default now()
);
create table customers (
    id          integer primary key,
    name        text not null,
    tariff      text not null,
    balance     numeric(12, 2) not null default 0
);
create table meter_readings (
    customer_id integer not null references customers (id),
    read_at     timestamptz not null,
    kwh         double precision not null,
    primary key (customer_id, read_at)
);
-- Deletes and updates carry the whole old row, so that rules may read `before`.
alter table lab_results replica identity full;

insert into patients (id, name, born, ward) values
    (42, 'Ada King', '1815-12-10', 'B2'), (43, 'Grace Murray', '1906-12-09', null), (44, 'Alan Mathison', '1912-06-23', 'A1');
insert into lab_results (patient_id, test, value, unit) values
    (42, 'potassium', 4.100, 'mmol/l'), (43, 'glucose', 5.600, 'mmol/l'), (44, 'potassium', 6.900, 'mmol/l');
insert into customers (id, name, tariff) values (7, 'Bakery on the corner', 'day'), (8, 'Swimming pool', 'night');
insert into meter_readings values (7, now() - interval '1 hour', 12.5), (7, now(), 13.1), (8, now(), 210.75);
