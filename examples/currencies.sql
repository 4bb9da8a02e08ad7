-- Totals a currency, in whole units, and never two currencies in one sum.
-- `charged` is what customers paid in that currency. All after it is what moved on the balance in that
-- currency, which is the one Stripe settled in: yen that were settled in dollars are charged in jpy
-- and are in the gross, the fees and the net of usd (`exchange_rate` says how many).
with digits as (
    -- Minor units are no cents everywhere: docs.stripe.com/currencies lists those without, and with
    -- three. UGX and ISK have no cents either, but Stripe counts them in hundredths all the same.
    select unnest(['bif', 'clp', 'djf', 'gnf', 'jpy', 'kmf', 'krw', 'mga', 'pyg', 'rwf', 'vnd', 'vuv',
        'xaf', 'xof', 'xpf']) as currency, 1::decimal(4, 3) as unit
    union all
    select unnest(['bhd', 'jod', 'kwd', 'omr', 'tnd']), 0.001
),
charged as (
    select currency, count(*) as payments, sum(amount_captured) as charged
    from stripe.charges
    where not deleted and paid and captured
    group by currency
),
moved as (  -- as in revenue.sql, which says why
    select
        currency,
        sum(amount) filter (reporting_category in ('charge', 'partial_capture_reversal')) as gross,
        sum(amount) filter (reporting_category in ('refund', 'refund_failure', 'charge_failure'))
            as refunds,
        sum(amount) filter (reporting_category in ('dispute', 'dispute_reversal')) as disputes,
        coalesce(sum(amount) filter (reporting_category in ('fee', 'network_cost')), 0) - sum(fee)
            as fees,
        sum(net) as net
    from stripe.balance_transactions
    where not deleted
        and reporting_category not in ('payout', 'payout_reversal', 'topup', 'topup_reversal')
    group by currency
),
both_sides as (
    select *, coalesce(unit, 0.01::decimal(4, 3)) as minor_unit
    from charged
    full join moved using (currency)
    left join digits using (currency)
)
select
    currency,
    coalesce(payments, 0) as payments,
    coalesce(charged, 0)::bigint * minor_unit as charged,
    coalesce(gross, 0)::bigint * minor_unit as gross,
    coalesce(refunds, 0)::bigint * minor_unit as refunds,
    coalesce(disputes, 0)::bigint * minor_unit as disputes,
    coalesce(fees, 0)::bigint * minor_unit as fees,
    coalesce(net, 0)::bigint * minor_unit as net
from both_sides
order by payments desc, currency;
