-- Customers by lifecycle stage: how many are where. The first stage that fits counts, so that
-- everybody is in one. For the customers themselves, as a CRM or a newsletter takes them, end with
-- `select id, email, stage from staged order by id` instead.
with subscribed as (
    select
        customer,
        bool_or(status = 'trialing') as trialing,
        bool_or(status = 'active' and not cancel_at_period_end and cancel_at is null) as active,
        bool_or(status = 'active' and (cancel_at_period_end or cancel_at is not null)) as leaving,
        -- paused: the trial ended without a card to charge
        bool_or(status in ('past_due', 'unpaid', 'paused')) as behind,
        bool_or(status = 'canceled') as canceled
    from stripe.subscriptions
    where not deleted
    group by customer
),
-- Invoices that were paid outside Stripe: no payment intent or charge paid them. A payment record may
-- describe such a payment. What a credit note gave back is subtracted.
paid_outside as (
    select customer, (status_transitions->>'paid_at')::timestamptz at time zone 'UTC' as paid_at
    from stripe.invoices
    where not deleted
        and status = 'paid' and amount_paid > coalesce(post_payment_credit_notes_amount, 0)
        and not exists (
            from stripe.invoice_payments as payments
            where payments.invoice = invoices.id
                and payments.status = 'paid'
                and (payments.payment->>'type') <> 'payment_record'
        )
),
paid as (
    select customer, count(*) as payments, max(paid_at) as last_paid
    from (
        select customer, created as paid_at
        from stripe.charges
        -- One that is only authorized is `paid` too, and what was not captured counts as refunded.
        where not deleted and paid and captured and amount_refunded < amount
        union all
        select customer, paid_at from paid_outside
    )
    group by customer
),
staged as (
    select
        customers.id,
        customers.email,
        payments,
        last_paid,
        case
            when behind then 'at risk'
            when leaving and not active then 'leaving'
            when active then 'subscriber'
            when trialing then 'trial'
            when canceled then 'former subscriber'
            when payments > 1 then 'repeat buyer'
            when payments = 1 then 'buyer'
            else 'lead'
        end as stage
    from stripe.customers
    left join subscribed on subscribed.customer = customers.id
    left join paid on paid.customer = customers.id
    where not customers.deleted
)
select
    stage,
    count(*) as customers,
    coalesce(sum(payments), 0)::bigint as payments,
    max(last_paid)::date as last_paid
from staged
group by stage
order by customers desc, stage;
