-- The list for a dunning tool: invoices that a payment failed for, and cards that expire before the
-- next renewal. Amounts are in minor units of `currency`.
-- `set variable today = now()` asks for today; else it is the time of the newest event.
with clock as (
    select coalesce(getvariable('today')::timestamp, max(created)) as today from stripe.events
),
-- The last failed try for a customer says why: an invoice itself does not.
tried as (
    select
        customer,
        arg_max(coalesce(outcome->>'reason', failure_code), created) as reason,
        max(created) as failed_at
    from stripe.charges
    where not deleted and status = 'failed'
    group by customer
),
failed as (
    select
        'payment failed' as why,
        customer,
        id as invoice,
        amount_remaining::bigint as amount,
        currency,
        attempt_count::bigint as attempts,
        next_payment_attempt::date as next_on,
        hosted_invoice_url as pay_at
    from stripe.invoices
    where not deleted and status = 'open' and amount_remaining > 0 and attempt_count > 0
),
renewing as (
    select
        subscriptions.customer,
        coalesce(default_payment_method, customers.invoice_settings->>'default_payment_method')
            as method,
        min(items.current_period_end) as renews_at,
        case  -- known where all prices are flat ones in the subscription's currency
            when bool_and(coalesce(
                (price->>'currency') = subscriptions.currency and (price->>'unit_amount') is not null,
                false
            ))
            then sum((price->>'unit_amount')::bigint * quantity)::bigint
        end as amount,
        subscriptions.currency
    from stripe.subscriptions
    join stripe.subscription_items as items
        on items.subscription = subscriptions.id and not items.deleted
    join stripe.customers on customers.id = subscriptions.customer and not customers.deleted
    where not subscriptions.deleted and status in ('active', 'trialing')
        and not cancel_at_period_end and cancel_at is null
    group by subscriptions.id, subscriptions.customer, subscriptions.currency, method
),
-- A card is good to the end of its month.
cards as (
    select
        id,
        make_date((card->>'exp_year')::int, (card->>'exp_month')::int, 1) + interval 1 month
            as good_until
    from stripe.payment_methods
    where not deleted and type = 'card'
),
expiring as (
    select
        'card expires' as why,
        customer,
        null as invoice,
        amount,
        currency,
        null as attempts,
        renews_at::date as next_on,
        null as pay_at
    from renewing
    join cards on cards.id = renewing.method
    cross join clock
    where good_until <= renews_at and renews_at >= today and renews_at < today + interval 60 day
)
select
    due.why, customers.email, due.customer, due.invoice, due.amount, due.currency, due.attempts,
    case when due.why = 'payment failed' then tried.reason end as reason, due.next_on, due.pay_at
from (select * from failed union all select * from expiring) as due
join stripe.customers on customers.id = due.customer and not customers.deleted
left join tried on tried.customer = due.customer
order by due.why desc, due.next_on, due.customer, due.invoice;
